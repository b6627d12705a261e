"""egeunet-quantize calibrate, sensitivity and search as a user runs them, and what they give
egeunet-export. Synthetic pictures and random weights."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_models as tiny
from egeunet.export.runners import open_runner
from egeunet.model.data.synthetic_files import write_synthetic

#: One worker runs all: what is slow is made once.
pytestmark = pytest.mark.xdist_group("quantize command")
Run = Callable[..., "subprocess.CompletedProcess[str]"]
NAME = "egeunet-quantize"
SCOPES = ("--scopes", "encoder1/group_norm", "decoder1", "GAB5")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


@pytest.fixture(scope="module")
def data(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose ground truth is what the float network says: int8 can only lose."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    write_synthetic(folder, 8, 64, seed=0)
    run = open_runner(weights)
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as image:
            mask = run(np.asarray(image)[None])[0, :, :, 0] >= 0.5
        Image.fromarray(mask).save(folder / "masks" / path.name)
    return folder


@pytest.fixture(scope="module")
def calibration(data: Path, weights: Path, run_command: Run) -> Path:
    path = data.parent / "mse.json"
    done = run_command(
        NAME, "calibrate", "--data", data, "--weights", weights, "--method", "mse", "--out", path
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "ranges over 8 images of pictures, mse" in done.stdout
    return path


@pytest.fixture(scope="module")
def measuring(data: Path, weights: Path, calibration: Path) -> tuple[object, ...]:
    return (
        "--data", data, "--weights", weights, "--calibration", calibration, "--hold-out", 4
    )  # fmt: skip


@pytest.fixture(scope="module")
def sensitivity(data: Path, measuring: tuple[object, ...], run_command: Run) -> Path:
    path = data.parent / "sensitivity.json"
    done = run_command(
        NAME, "sensitivity", *measuring, "--out", path, *SCOPES,
        "--picture", path.with_suffix(".png"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| in int8 alone | operators |")
    return path


def test_the_manifest_of_a_calibration(calibration: Path) -> None:
    values = json.loads(calibration.read_text())
    assert values["kind"] == "egeunet calibration" and values["method"] == "mse"
    assert (values["images"], values["height"]) == (8, 64)
    assert all(len(values[f"{name}_sha256"]) == 64 for name in ("ids", "graph", "weights"))


def test_sensitivity_writes_table_rows_and_picture(sensitivity: Path) -> None:
    values = json.loads(sensitivity.read_text())
    assert {row["name"] for row in values["rows"]} == set(SCOPES[1:])
    losses = [row["mask_iou"] for row in values["rows"]]
    assert losses == sorted(losses) and losses[0] < 1
    assert values["images"] == 2 and values["data"].endswith("images of pictures")
    assert sensitivity.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in sensitivity.parent.glob("sens*")} == {
        "sensitivity.json", "sensitivity.png"
    }  # fmt: skip


def test_a_drop_that_holds_is_a_recipe_that_exports(
    measuring: tuple[object, ...], weights: Path, sensitivity: Path, run_command: Run,
    tmp_path: Path,
) -> None:  # fmt: skip
    recipe = tmp_path / "recipe.json"
    done = run_command(
        NAME, "search", *measuring, "--sensitivity", sensitivity, "--max-drop", 100,
        "--out", recipe,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "recipe.json: 0 of 3 groups in float32" in done.stdout
    values = json.loads(recipe.read_text())
    assert values["keep_float"] == [] and len(values["steps"]) == 1
    done = run_command(
        "egeunet-export", "--format", "tflite", "--int8", "--recipe", recipe, "--no-check",
        "--weights", weights, "--out", tmp_path, "--target-bytes", 1000,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "target of 1,000 bytes missed" in line and line.endswith("kept all the same")
    file = tmp_path / "egeunet_int8.tflite"
    assert file.stat().st_size == values["step"]["bytes"]  # the file that was measured
    assert json.loads(Path(f"{file}.json").read_text())["float_operators"] == 0


def test_a_drop_that_cannot_be_held(
    measuring: tuple[object, ...], sensitivity: Path, run_command: Run, tmp_path: Path
) -> None:
    """All but three scopes stay in int8, and every pixel that they move is a loss."""
    done = run_command(
        NAME, "search", *measuring, "--sensitivity", sensitivity, "--max-drop", 0,
        "--out", tmp_path / "recipe.json",
    )  # fmt: skip
    assert done.returncode == 1 and list(tmp_path.iterdir()) == []
    assert "a drop of 0 points cannot be held" in done.stderr
    assert re.search(r"with [03] of 3 groups in float32; allow more", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sensitivity", "--split", "test"), "test images must decide nothing"),
        (("search", "--max-drop", "-1"), "--max-drop must be 0 to 100 points"),
        (("sensitivity", "--scopes", "attic"), "no scope 'attic'"),
        (("sensitivity", "--picture", "p.jpg"), "expected a file name with .png, got p.jpg"),
    ],
    ids=str,
)
def test_refused_in_one_line(
    data: Path, weights: Path, run_command: Run, tmp_path: Path, arguments: tuple[str, ...],
    words: str,
) -> None:  # fmt: skip
    done = run_command(
        NAME, *arguments, "--data", data, "--weights", weights, "--out", tmp_path / "o.json"
    )
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{NAME}: error: ") and words in line


def test_a_recipe_for_other_weights_is_one_line(
    calibration: Path, run_command: Run, tmp_path: Path
) -> None:
    other = tiny.random_weights(tmp_path / "other.safetensors", seed=6)
    done = run_command(
        "egeunet-export", "--format", "tflite", "--int8", "--recipe", calibration,
        "--weights", other, "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 2 and list((tmp_path / "out").iterdir()) == []
    (line,) = done.stderr.splitlines()
    assert "mse.json: made for weights" in line and "other.safetensors" in line


def test_interrupted_it_goes_on_where_it_stopped(
    measuring: tuple[object, ...], run_command: Run, tmp_path: Path
) -> None:
    out = tmp_path / "s.json"
    arguments = [NAME, "sensitivity", *map(str, measuring), "--out", str(out), "--quiet"]
    program = [str(Path(sys.executable).parent / NAME), *arguments[1:]]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    progress = tmp_path / "s.progress.json"
    until = time.monotonic() + 200
    while not progress.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2 and "run the same command again to go on" in errors, errors
    assert not out.exists()
    rows = json.loads(progress.read_text())["rows"]
    assert 0 < len(rows) < 38
    marked = [{**row, "iou_drop": 77.0} for row in rows]  # to be found again
    progress.write_text(json.dumps({**json.loads(progress.read_text()), "rows": marked}))
    done = run_command(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"goes on after {len(rows)} groups" in done.stderr
    found = [row["name"] for row in json.loads(out.read_text())["rows"] if row["iou_drop"] == 77]
    assert sorted(found) == sorted(row["name"] for row in rows) and not progress.exists()
