"""kill -9 and Ctrl-C in the middle of an export (of a training run: test_train_command.py)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny_models as tiny
from egeunet.export.provenance import sha256_of

pytestmark = pytest.mark.xdist_group("interrupts")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


@contextlib.contextmanager
def started(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """An installed command in a process group of its own, as a terminal starts it."""
    program = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Whoever runs the tests in the background has switched SIGINT off for children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        if process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        assert time.monotonic() < deadline, "nothing happened for two minutes"
        time.sleep(0.005)


def partial_files(out: Path) -> list[Path]:
    return list(out.glob(".egeunet_float32.tflite.*.partial/*"))


def test_kill_in_export(run_command: Run, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ("--format", "tflite", "--weights", weights, "--out", out)
    with started("egeunet-export", *line) as process:
        wait_until(process, lambda: bool(partial_files(out)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "egeunet_float32.tflite").exists()
    assert not (out / "egeunet_float32.tflite.json").exists()
    # What it was writing lies under a name that no one takes for a model.
    assert all(p.name.startswith(".") and p.suffix == ".partial" for p in out.iterdir())
    done = run_command("egeunet-export", *line)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "egeunet_float32.tflite.json").read_text())
    assert report["sha256"] == sha256_of(out / "egeunet_float32.tflite")


def test_interrupt_in_export(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ("--format", "tflite", "--weights", weights, "--out", out)
    with started("egeunet-export", *line) as process:
        wait_until(process, lambda: bool(partial_files(out)))
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert errors == "egeunet-export: interrupted; nothing half-written is left\n"
    assert output == ""
    assert list(out.iterdir()) == []
