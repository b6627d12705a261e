"""egeunet-quantize finetune as a user runs it."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from egeunet.model.data.synthetic_files import write_synthetic

NAME = "egeunet-quantize"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOW = ("--size", "64", "--batch", "3", "--hold-out", "4", "--no-compile", "--quiet")
SHORT = ("--phases", "norms:1:1e-3", "integer:1:1e-4")

#: One worker runs all: the finished run is made once.
pytestmark = pytest.mark.xdist_group("finetune command")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_synthetic(folder / "pictures", 8, 64, seed=0)
    return folder / "pictures"


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory, run_command: Run) -> Path:
    path = tmp_path_factory.mktemp("out") / "static.safetensors"
    done = run_command(NAME, "finetune", "--data", data, "--out", path, *HOW, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "mask IoU with the reference" in done.stdout
    assert "training on 6 images, validating on 2" in done.stderr
    return path


def test_the_recipe_the_checkpoint_and_the_curve_are_written(out: Path) -> None:
    assert out.stat().st_size > 100_000
    folder = out.with_suffix(".run")
    assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", "log.csv"}
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [(row["phase"], row["step"]) for row in rows] == [("norms", "2"), ("integer", "4")]


def test_a_finished_run_is_resumed_to_the_same_bytes(
    out: Path, data: Path, run_command: Run
) -> None:
    before = out.read_bytes()
    out.unlink()
    done = run_command(NAME, "finetune", "--data", data, "--out", out, *HOW, *SHORT, "--resume")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == before


def test_the_recipe_is_exported(out: Path, run_command: Run, tmp_path: Path) -> None:
    how = ("--format", "tflite", "--int8", "--size", "64", "--no-check", "--out", tmp_path)
    done = run_command("egeunet-export", *how, "--recipe", out)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "egeunet_int8.tflite"
    assert file.stat().st_size < 90_000
    report = json.loads((tmp_path / "egeunet_int8.tflite.json").read_text())
    made = report["details"]
    assert (made["norms"], made["recipe"]) == ("tuned", "static.safetensors")
    assert made["finetuning"]["log"][-1]["phase"] == "integer"
    assert report["float_operators"] == 0
    assert not {"rsqrt", "mean", "dequantize", "gelu"} & report["ops"].keys()
    other = run_command("egeunet-export", *how[:3], "--out", tmp_path / "b", "--recipe", out)
    assert other.returncode == 2
    assert "a recipe for 64 x 64" in other.stderr
    assert not (tmp_path / "b" / "egeunet_int8.tflite").exists()


def test_a_recipe_is_gone_on_with(out: Path, data: Path, run_command: Run, tmp_path: Path) -> None:
    path, phases = tmp_path / "last.safetensors", ("--phases", "integer:1:1e-5")
    how = ("finetune", "--data", data, "--out", path, *HOW, *phases)
    done = run_command(NAME, *how, "--from", out)
    assert done.returncode == 0, done.stderr
    assert path.is_file()
    other = run_command(NAME, *how[:4], tmp_path / "b.safetensors", *how[5:], "--from", data)
    assert other.returncode == 2
    assert "not a recipe of egeunet-quantize" in other.stderr


def test_a_run_is_not_overwritten(out: Path, data: Path, run_command: Run) -> None:
    done = run_command(NAME, "finetune", "--data", data, "--out", out, *HOW, *SHORT)
    assert done.returncode == 2
    assert "holds a run already; add --resume" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "r.tflite"), "--out must end in .safetensors, got r.tflite"),
        (("--out", "r.safetensors", "--phases", "norms:1"), "KIND:EPOCHS:RATE, got 'norms:1'"),
        (("--out", "r.safetensors", "--phases", "norms:1:1e-3"), "end with integer, got norms"),
        (("--out", "r.safetensors", "--dense-bridges", "6"), "levels 1 to 5"),
        (("--out", "r.safetensors", "--kernel-scales", "row"), "or one, got 'row'"),
        (("--out", "r.safetensors", "--gelu", "tanh"), "or relu, got 'tanh'"),
        (("--out", "r.safetensors", "--pointwise-bits", "3"), "must be 8 or 4, got 3"),
        (
            ("--out", "r.safetensors", "--plan", "best"),
            "no plan is called 'best'; there are default",
        ),
        (("--out", "r.safetensors", "--limit", "0"), "--limit must be 1 or more, got 0"),
        (("--out", "r.safetensors", "--hold-out", "4", "--resume"), "nothing to resume"),
        (("--out", "r.safetensors", "--size", "50"), "multiple of 32"),
    ],
)
def test_a_bad_argument_is_one_line(
    arguments: tuple[str, ...], message: str, data: Path, tmp_path: Path, run_command: Run
) -> None:
    done = run_command(NAME, "finetune", "--data", data, "--quiet", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("training on")]
    assert len(lines) == 1
    assert not (tmp_path / "r.safetensors").exists()


def test_no_data(tmp_path: Path, run_command: Run) -> None:
    out = tmp_path / "r.safetensors"
    done = run_command(NAME, "finetune", "--data", tmp_path / "absent", "--out", out)
    assert done.returncode == 2
    assert "absent" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_mutual_run_leaves_weights_and_a_recipe_of_them(
    data: Path, tmp_path: Path, run_command: Run
) -> None:
    path = tmp_path / "both.safetensors"
    phases = ("--phases", "float:1:1e-3", "integer:1:1e-4", "--mutual", "1")
    done = run_command(NAME, "finetune", "--data", data, "--out", path, *HOW, *phases)
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "both.weights.safetensors"
    assert f"{weights}: the reference that was trained along" in done.stdout
    rows = list(csv.DictReader((path.with_suffix(".run") / "log.csv").open()))
    assert all(0 < float(row["reference_iou"]) <= 1 for row in rows)
    how = ("--format", "tflite", "--int8", "--size", "64", "--no-check", "--recipe", path)
    made = run_command("egeunet-export", *how, "--weights", weights, "--out", tmp_path / "a")
    assert made.returncode == 0, made.stderr
    other = run_command("egeunet-export", *how, "--out", tmp_path / "b")  # the shipped weights
    assert other.returncode == 2
    assert "a recipe of weights" in other.stderr
