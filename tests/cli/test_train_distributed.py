"""egeunet-train under torchrun: two processes train what one trains, die and go on like it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from egeunet.model.checkpoint import TrainingState
from egeunet.model.data.synthetic_files import write_synthetic

BIN = Path(sys.executable).parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]

#: One worker runs all: the runs that are compared are made once.
pytestmark = pytest.mark.xdist_group("train-distributed")

#: 9 of the 12 pictures train: two steps a stage, a line of the log after each two.
HOW = ("--stages", "32x1x4", "32x2x4", "64x1x4", "--hold-out", "4")
QUIET = ("--no-compile", "--quiet", "--threads", "1", "--device", "cpu")
WRITTEN = [
    "checkpoint.pt", "curves.png", "log.csv", "log.json",
    "weights.contract.json", "weights.safetensors",
]  # fmt: skip

#: Runs the command; every process dies by SIGKILL after the weights' change of step 5.
_DIES = """
import os, signal, sys
import egeunet.model.training as training
from egeunet.model.cli_train import main
average = training.Trainer._average
def counted(self, step):
    average(self, step)
    if step + 1 == 5:
        os.kill(os.getpid(), signal.SIGKILL)
training.Trainer._average = counted
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and masks/ of 12 synthetic pictures, 64 x 64."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(folder, 12, 64)
    return folder


def torchrun(program: Path, *arguments: object) -> list[str]:
    command = [BIN / "torchrun", "--standalone", "--nproc-per-node=2", program, *arguments, *QUIET]
    return list(map(str, command))


def run_two(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        torchrun(program, *arguments), capture_output=True, text=True, timeout=400, check=False,
        env=env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The folder of a run by two processes; not to be changed."""
    out = tmp_path_factory.mktemp("two") / "run"
    done = run_two(BIN / "egeunet-train", "--data", data, "--out", out, *HOW)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation IoU") == 1, "one of them speaks"
    assert done.stderr.count("training on 9 images, validating on 3\n") == 1
    return out


def ours(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("egeunet-train: ")]


def log(out: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((out / "log.json").read_text())["log"]
    return rows


def digest(out: Path) -> str:
    return hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest()


def test_two_processes_give_the_loss_curve_of_one(
    tmp_path: Path, data: Path, two: Path, run_command: Run
) -> None:
    out = tmp_path / "one"
    done = run_command("egeunet-train", "--data", data, "--out", out, *HOW, *QUIET)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in out.iterdir()) == WRITTEN
    one, both = log(out), log(two)
    assert [row["step"] for row in one] == [row["step"] for row in both] == [2, 6, 8]
    assert len({row["loss"] for row in one}) == 3
    for alone, shared in zip(one, both, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert shared["validation_iou"] == pytest.approx(alone["validation_iou"], abs=0.01)


def test_killed_and_resumed_gives_the_same_weights_bit_by_bit(
    tmp_path: Path, data: Path, two: Path
) -> None:
    out, program = tmp_path / "run", tmp_path / "dies.py"
    program.write_text(_DIES)
    done = run_two(program, "--data", data, "--out", out, *HOW)
    assert done.returncode != 0 and not (out / "weights.safetensors").exists()
    assert TrainingState.load(out).step == 2
    done = run_two(BIN / "egeunet-train", "--data", data, "--out", out, *HOW, "--resume")
    assert done.returncode == 0, done.stderr
    assert digest(out) == digest(two)
    assert log(out) == log(two)


def test_what_all_find_wrong_is_one_line(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    done = run_two(
        BIN / "egeunet-train", "--data", data, "--out", out, "--stages", "32x1x3", "--hold-out", "4"
    )
    assert done.returncode != 0
    line = "egeunet-train: error: a batch of 3 cannot be shared equally by 2 processes; "
    assert ours(done.stderr) == [f"{line}choose a multiple of 2"], done.stderr
    assert not out.exists()


def test_ctrl_c_stops_all_after_the_same_step_with_one_line(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    # Hours, were it not stopped.
    arguments = ("--data", data, "--out", out, "--stages", "32x100000x4", "--hold-out", "4")
    command = torchrun(BIN / "egeunet-train", *arguments)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        until = time.monotonic() + 200
        while not (out / "log.csv").exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=200)
    assert process.returncode != 0
    step = TrainingState.load(out).step
    said = f"interrupted; {out} has a checkpoint of step {step}, --resume goes on"
    assert ours(stderr) == [f"egeunet-train: {said}"], stderr
    assert step >= 8
