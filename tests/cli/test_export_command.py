"""egeunet-export as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_models as tiny

pytestmark = pytest.mark.xdist_group("export command")
Run = Callable[..., "subprocess.CompletedProcess[str]"]
NAME = "egeunet-export"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


def test_list(run_command: Run) -> None:
    done = run_command(NAME, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        [
            *("tflite", "*.tflite", "float32,", "float16,", "int8"),
            *("(and", "int8-tuned,", "int8-mixed,", "int8-dynamic,", "int4-mixed)"),
        ],
        ["onnx", "*.onnx", "float32,", "float16,", "int8"],
        ["ort", "*.ort", "float32,", "float16"],
        [
            "coreml",
            "*.mlpackage",
            "float16,",
            "float32,",
            "linear8,",
            "palettized6,",
            "palettized4",
        ],
    ]


def test_help_names_every_flag(run_command: Run) -> None:
    done = run_command(NAME, "--help")
    assert done.returncode == 0
    for flag in (
        "--format",
        "--int8",
        "--fp16",
        "--weights",
        "--size",
        "--io",
        "--out",
        "--list",
        "--batch",
        "--dynamic",
    ):
        assert flag in done.stdout
    assert "egeunet-export --format tflite --int8" in done.stdout


@pytest.mark.parametrize(("format", "layout"), [("tflite", "NHWC"), ("onnx", "NCHW")])
def test_int8_file_is_made_checked_and_runs(
    format: str, layout: str, run_command: Run, weights: Path, tmp_path: Path
) -> None:
    done = run_command(NAME, "--format", format, "--int8", "--weights", weights, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    model = tmp_path / "build" / f"egeunet_int8.{format}"  # the default folder
    report = json.loads(Path(f"{model}.json").read_text())
    assert report["parity"]["checked"] and report["io"] == "uint8"
    assert f"build/egeunet_int8.{format}: {model.stat().st_size:,} bytes" in done.stdout
    assert "masks agree on" in done.stdout and len(done.stdout.splitlines()) == 1
    evaluation = tmp_path / "e.json"
    done = run_command("egeunet-evaluate", model, "--limit", 2, "--json", evaluation)
    assert done.returncode == 0, done.stderr
    values = json.loads(evaluation.read_text())
    assert values["model"]["contract"] == report["contract"]
    assert f"input uint8 {layout}" in json.dumps(values["model"])


def test_all_formats_in_one_call(run_command: Run, weights: Path, tmp_path: Path) -> None:
    done = run_command(
        NAME, "--format", "all", "--precision", "float32", "--no-check", "--size", 32,
        "--weights", weights, "--out", tmp_path / "deep" / "out",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    names = {path.name for path in (tmp_path / "deep" / "out").iterdir()}
    files = {f"egeunet_float32.{suffix}" for suffix in ("tflite", "onnx", "ort", "mlpackage")}
    assert names == files | {f"{name}.json" for name in files}
    assert len(done.stdout.splitlines()) == 4
    assert done.stdout.count("not checked: switched off") == 4


def test_without_a_format_it_asks(run_command: Run) -> None:
    done = run_command(NAME)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"{NAME}: error: which format? give --format tflite, onnx, ort, coreml or all"
    )
