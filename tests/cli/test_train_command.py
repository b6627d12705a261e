"""egeunet-train as a user runs it: kill -9, Ctrl-C, --resume, and every bad argument."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egeunet.model.cli_train import main
from egeunet.model.data.synthetic_files import write_synthetic

NAME = "egeunet-train"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

Finished = tuple[Path, "subprocess.CompletedProcess[str]"]

#: One worker runs all: the finished run is made once.
pytestmark = pytest.mark.xdist_group("train")

#: 9 of the 12 pictures train: two steps an epoch, 8 and 2 in all; validated every 4th epoch.
RECIPE = ("--stages", "32x4x4", "64x1x4", "--hold-out", "4")
HOW = ("--no-compile", "--quiet", "--threads", "1")
WRITTEN = [
    "checkpoint.pt", "curves.png", "log.csv", "log.json",
    "weights.contract.json", "weights.safetensors",
]  # fmt: skip

#: Runs the command and ends it by SIGKILL: where fsync is called for the n-th time on
#: a checkpoint (the file is written but not yet in place), or after a number of steps.
_DIES = """
import os, signal, sys
from pathlib import Path
import egeunet.model.atomic as atomic
import egeunet.model.training as training
from egeunet.model.cli_train import main
where, count = sys.argv[1], int(sys.argv[2])
def die():
    os.kill(os.getpid(), signal.SIGKILL)
sync, average, seen = atomic._sync, training.Trainer._average, []
def counted_sync(path):
    seen.append(path) if Path(path).name == "checkpoint.pt" else None
    die() if len(seen) == count else sync(path)
def counted_average(self, step):
    average(self, step)
    die() if step + 1 == count else None
if where == "write":
    training.CHECKPOINT_SECONDS = -1.0  # a checkpoint after each step
    atomic._sync = counted_sync
else:
    training.Trainer._average = counted_average
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and masks/ of 12 synthetic pictures, 64 x 64."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(folder, 12, 64)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path, run_command: Run) -> Finished:
    """A run that nothing interrupted; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return out, run_command(NAME, "--data", data, "--out", out, *RECIPE, *HOW)


def digest(out: Path) -> str:
    return hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest()


def assert_one_line(stderr: str, reason: str) -> None:
    assert "Traceback" not in stderr
    ours = [line for line in stderr.splitlines() if line.startswith(f"{NAME}: ")]
    assert len(ours) == 1 and stderr.endswith(f"{ours[0]}\n"), stderr
    assert reason in ours[0]


def test_a_run_leaves_weights_log_and_curves(
    finished: Finished,
) -> None:
    from egeunet.model import ModelContract, load_weights

    out, done = finished
    assert done.returncode == 0, done.stderr
    assert done.stderr == "training on 9 images, validating on 3\n"
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], r["size"], r["epoch"]) for r in rows] == [
        ("8", "32", "4"),
        ("10", "64", "1"),
    ]
    report = json.loads((out / "log.json").read_text())
    assert report["best_validation_iou"] == float(rows[-1]["validation_iou"])
    assert report["recipe"]["seed"] == 0
    with Image.open(out / "curves.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 1
    _, contract = load_weights(out / "weights.safetensors")
    assert contract == ModelContract(64, 64)
    assert done.stdout == (
        f"{out / 'weights.safetensors'}: validation IoU {report['best_validation_iou']:.4f}\n"
    )


def killed(data: Path, out: Path, where: str, count: int, *arguments: str) -> None:
    command = [sys.executable, "-c", _DIES, where, str(count), "--data", str(data)]
    command += ["--out", str(out), *RECIPE, *HOW, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=env
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "weights.safetensors").exists()


def test_killed_twice_and_resumed_gives_the_same_weights_bit_by_bit(
    tmp_path: Path,
    data: Path,
    run_command: Run,
    finished: Finished,
) -> None:
    from egeunet.model.checkpoint import TrainingState

    out = tmp_path / "run"
    # In the middle of writing the fifth checkpoint (the first is that of step 0) ...
    killed(data, out, "write", 5)
    assert TrainingState.load(out).step == 3
    # ... and again at the last step of the first size, between two checkpoints.
    killed(data, out, "step", 7, "--resume")
    assert TrainingState.load(out).step == 3
    done = run_command(NAME, "--data", data, "--out", out, "--resume", *RECIPE, *HOW)
    assert done.returncode == 0, done.stderr
    assert digest(out) == digest(finished[0])
    for name in ("log.csv", "log.json", "weights.contract.json"):
        assert (out / name).read_bytes() == (finished[0] / name).read_bytes(), name


def test_ctrl_c_stops_with_a_checkpoint_and_one_line(tmp_path: Path, data: Path) -> None:
    from egeunet.model.checkpoint import TrainingState

    out = tmp_path / "run"
    program = Path(sys.executable).parent / NAME
    command = [str(program), "--data", str(data), "--out", str(out), *HOW]
    command += ["--stages", "32x100000x4", "--hold-out", "4"]  # hours, were it not stopped
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        while not (out / "checkpoint.pt").exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert stdout == b""
    assert_one_line(stderr.decode(), "interrupted; ")
    step = TrainingState.load(out).step
    assert f"{out} has a checkpoint of step {step}, --resume goes on" in stderr.decode()
    assert step >= 1
    left = {path.name for path in out.iterdir()} - {"log.csv", "log.json"}
    assert left == {"checkpoint.pt"}


def test_without_data_it_trains_on_synthetic_pictures_and_says_so(
    tmp_path: Path, run_command: Run
) -> None:
    done = run_command(NAME, "--out", tmp_path / "run", "--stages", "32x1x32", *HOW)
    assert done.returncode == 0, done.stderr
    assert "no --data: training on synthetic pictures" in done.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == WRITTEN


def test_help_by_the_installed_command(run_command: Run) -> None:
    done = run_command(NAME, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout and "--resume" in done.stdout


def refused(capsys: pytest.CaptureFixture[str], reason: str, *arguments: object) -> None:
    """In this process: the start of torch would cost more than the test."""
    capsys.readouterr()
    assert main([*map(str, arguments), *HOW[:2]]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert_one_line(printed.err, reason)


def test_resuming_something_else_is_refused(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    finished: Finished,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    before = digest(out), (out / "checkpoint.pt").read_bytes()
    given = ("--data", data, "--out", out, *RECIPE)
    refused(capsys, "holds a run already; add --resume or choose another --out", *given)
    refused(capsys, "follows another recipe", *given, "--resume", "--seed", 1)
    refused(capsys, "follows another recipe", *given, "--resume", "--learning-rate", 0.001)
    other = tmp_path / "other"
    write_synthetic(other, 12, 64, seed=7)
    refused(capsys, "was trained on other data", "--data", other, *given[2:], "--resume")
    nowhere = ("--data", data, "--out", tmp_path / "nowhere", *RECIPE)
    refused(capsys, "nothing to resume", *nowhere, "--resume")
    assert not (tmp_path / "nowhere").exists()
    assert (digest(out), (out / "checkpoint.pt").read_bytes()) == before
    (out / "checkpoint.pt").write_bytes(before[1][: len(before[1]) // 2])
    refused(capsys, "is not a readable training checkpoint", *given, "--resume")
