"""Conversions in a process of their own: crashes, stalls and errors of tools are one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from egeunet.benchmarks.peers import conversion
from egeunet.benchmarks.peers.conversion import convert_in_a_process
from egeunet.model.errors import InputError


def script(path: Path, *lines: str) -> str:
    """A program that takes the interpreter's place."""
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="signals and shell scripts")
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["kill -SEGV $$"], r"it crashed \(signal 11\)"),
        (["echo noise", "exit 3"], "cannot convert it: noise"),
        (["exit 3"], "cannot convert it: exit code 3"),
        (["exit 0"], "cannot convert it: exit code 0"),  # and nothing was written
        (
            ["echo 'tool.deep.LowerError: no rule for erf' >&2", "echo; echo bye", "exit 1"],
            "cannot convert it: tool.deep.LowerError: no rule for erf",
        ),
    ],
)
def test_failing_tool_is_one_line_and_a_log(
    lines: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion.sys, "executable", script(tmp_path / "python", *lines))
    log = tmp_path / "fake.log"
    with pytest.raises(InputError, match=message) as caught:
        convert_in_a_process("fake", tmp_path / "w", tmp_path / "out", log)
    assert "\n" not in str(caught.value) and str(log) in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="signals and shell scripts")
def test_stalled_tool_ends_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script(tmp_path / "python", "sleep 60 & echo $! > child", "wait")
    monkeypatch.setattr(conversion.sys, "executable", program)
    with pytest.raises(InputError, match="fake took more than 2 s"):
        convert_in_a_process("fake", tmp_path / "w", tmp_path / "out", tmp_path / "log", 2)
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    for _ in range(50):
        if not child.exists() or " Z " in child.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the tool's own child is still running")


def test_process_that_converts_reports_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="InputError: unknown runtime 'nobody'; known: torch"):
        convert_in_a_process("nobody", tmp_path / "w", tmp_path / "out", tmp_path / "log")
