"""The counter's command line: what it refuses, in one line and with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def _count(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "egeunet.benchmarks.arm64.cli_count", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name at least one MODEL (or --setup)"),
        (("m.tflite", "--cpu", "max"), "unknown core 'max'; known: cortex-a76"),
        (("absent.tflite",), "model not found: absent.tflite"),
        (("m.tflite", "--json", "/"), "/ is a folder"),
    ],
)
def test_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = _count(*arguments, "--root", tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert done.stderr.startswith("count: error: ") and not done.stdout


def test_a_root_that_is_not_set_up_names_the_command(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"x")
    done = _count(model, "--root", tmp_path / "root")
    assert done.returncode == 2
    assert "run egeunet-bench --setup arm64" in done.stderr
    assert not (tmp_path / "root").exists()
