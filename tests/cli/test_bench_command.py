"""egeunet-bench as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_models as tiny
from egeunet.benchmarks.report import load_report
from egeunet.model import ModelContract

Run = Callable[..., "subprocess.CompletedProcess[str]"]
NAME = "egeunet-bench"
SIDE = 32
#: As little as there is.
LITTLE = ("--quick", "--limit", "2", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and files of other networks at the same size."""
    folder = tmp_path_factory.mktemp("bench")
    tiny.random_weights(folder / "mine.safetensors", size=SIDE)
    contract = ModelContract(SIDE, SIDE).to_dict()
    files = {
        "other.onnx": tiny.onnx_bytes(contract, size=SIDE),
        "nan.onnx": tiny.onnx_bytes(contract, size=SIDE, bias=float("nan")),
        "large.onnx": tiny.onnx_bytes(ModelContract(64, 64).to_dict(), size=64),
        "crash.tflite": tiny.tflite_bytes(contract, crash=True),
        "noise.onnx": b"\0" * 500,
        "notes.txt": b"no model",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def exported(run_command: Run, folder: Path) -> Path:
    """A faithful float32 file of the weights."""
    done = run_command(
        "egeunet-export", "--format", "tflite", "--weights", folder / "mine.safetensors",
        "--out", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "egeunet_float32.tflite"


@pytest.fixture(scope="module")
def measured(
    run_command: Run, folder: Path, exported: Path
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One run over the faithful file, with every output."""
    out = folder / "out"
    done = run_command(
        NAME, exported, "--weights", folder / "mine.safetensors", *LITTLE,
        "--json", out / "r.json", "--html", out / "r.html", "--markdown", out / "r.md",
    )  # fmt: skip
    return done, out


def test_a_faithful_file_passes_and_is_reported(
    measured: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, out = measured
    assert done.returncode == 0, done.stderr
    report = load_report(out / "r.json")
    ids = [row["id"] for row in report["rows"]]
    assert ids == [
        "mine.safetensors|torch|1",
        "egeunet_float32.tflite|litert-xnnpack|1",
        "egeunet_float32.tflite|litert-builtin|1",
    ]
    assert report["data"] == {"name": "synthetic", "split": "all", "images": 2, "synthetic": True}
    assert report["quick"] and report["duration_s"] > 0
    assert report["gates_failed"] == []
    assert (out / "r.md").read_text() == done.stdout
    assert "ynthetic" in done.stdout
    assert "<script" in (out / "r.html").read_text()


def test_every_row_has_latency_size_and_a_ratio_to_torch(
    measured: tuple[subprocess.CompletedProcess[str], Path], exported: Path
) -> None:
    report = load_report(measured[1] / "r.json")
    for row in report["rows"]:
        latency = row["latency"]
        assert len(latency["samples_ms"]) == latency["runs"] >= 50
        assert latency["min_ms"] <= latency["median_ms"] <= latency["p99_ms"]
        assert latency["load_ms"] > 0 and latency["first_ms"] > 0
        assert row["ratio"]["baseline"] == "mine.safetensors|torch|1"
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    row = report["rows"][1]
    assert row["bytes"] == exported.stat().st_size
    assert not row["within_target"]
    assert report["pre_post"]["preprocess_ms"]["median_ms"] > 0
    assert {entry["kind"] for entry in report["pictures"]} == {"worst", "difference"}
    assert str(exported.parent) not in json.dumps(report)  # names, not somebody's folders


def test_what_is_not_there_is_listed_as_skipped(run_command: Run) -> None:
    done = run_command(NAME, "--list")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "ready" in lines["torch"] and "ready" in lines["litert-xnnpack"]
    if sys.platform != "darwin":
        assert "not here: Core ML runs on a Mac only" in lines["coreml"]
    assert {"litert-arm64", "onnxruntime-arm64", "android"} <= lines.keys()


def test_another_network_fails_its_gates_by_name(run_command: Run, folder: Path) -> None:
    out = folder / "failed.json"
    done = run_command(
        NAME, "--model", folder / "other.onnx", folder / "nan.onnx", "--where", "--json", out,
        "--weights", folder / "mine.safetensors", *LITTLE,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "egeunet-bench: error: gates failed: other.onnx|onnxruntime|1 " in done.stderr
    assert "nan.onnx|onnxruntime|1 non_finite 2 (gate 0)" in done.stderr
    report = load_report(out)  # written all the same
    assert {entry["row"] for entry in report["gates_failed"]} == {
        "other.onnx|onnxruntime|1", "nan.onnx|onnxruntime|1",
    }  # fmt: skip
    reasons = [entry["reason"] for entry in report["skipped"] if entry["runtime"] == "--where"]
    assert len(reasons) == 2 and all("not those of an export" in reason for reason in reasons)


def test_two_reports_are_compared(
    run_command: Run, measured: tuple[subprocess.CompletedProcess[str], Path], folder: Path
) -> None:
    old = json.loads((measured[1] / "r.json").read_text())
    old["rows"][1]["bytes"] -= 1000
    (folder / "old.json").write_text(json.dumps(old))
    done = run_command(
        NAME, folder / "egeunet_float32.tflite", "--weights", folder / "mine.safetensors",
        *LITTLE, "--runtime", "litert-xnnpack", "--compare", folder / "old.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "regression   egeunet_float32.tflite|litert-xnnpack|1: bytes" in done.stdout
    assert "litert-builtin|1: row is gone" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.tflite",), "model not found: absent.tflite"),
        (("noise.onnx",), "noise.onnx"),
        (("crash.tflite",), "crash.tflite"),
        (("notes.txt",), "no runtime takes '.txt'"),
        (("large.onnx",), "takes 64x64 images and the reference 32x32"),
        (("other.onnx", "--runtime", "tpu"), "unknown runtime 'tpu'; known: torch"),
        (("other.onnx", "--threads", "0"), "expected a positive number or 'all', got '0'"),
        (("other.onnx", "--split", "test"), "--split needs --data DIR"),
        (("other.onnx", "--data", "absent"), "absent"),
        (("other.onnx", "--limit", "0"), "limit"),
        (("other.onnx", "--compare", "notes.txt"), "notes.txt: not JSON"),
        (("other.onnx", "--json", "."), "is a folder"),
        (("other.onnx", "--weights", "absent.pth"), "absent.pth"),
        (("--pictures", "p.png"), "--pictures needs FILEs"),
        (("--setup", "x86"), "invalid choice"),
        (("other.onnx", "--runtime", "litert-arm64", "--root", "nowhere"), "--setup arm64"),
    ],
)
def test_a_bad_argument_is_one_line(
    run_command: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    weights = () if "--weights" in arguments else ("--weights", "mine.safetensors")
    before = sorted(path.name for path in folder.iterdir())
    quick = () if {"--limit", "--threads"} & set(arguments) else LITTLE
    done = run_command(NAME, *arguments, *weights, *quick, cwd=folder)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_interrupt_leaves_no_process_and_no_file(folder: Path, exported: Path) -> None:
    program = Path(sys.executable).parent / NAME
    command: list[Any] = [program, exported, "--weights", folder / "mine.safetensors"]
    command += ["--json", folder / "interrupted.json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    children: list[str] = []
    deadline = time.monotonic() + 120
    while len(children) < 2 and time.monotonic() < deadline:  # the tracker and a worker
        children = _children(process.pid)
        time.sleep(0.1)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error == "egeunet-bench: interrupted; nothing half-written is left\n"
    assert not (folder / "interrupted.json").exists()
    # multiprocessing's own tracker ends by itself a moment after its parent.
    while [child for child in children if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < deadline, "a worker was left behind"
        time.sleep(0.1)


def _children(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system does not list a process's children")
    return path.read_text().split()
