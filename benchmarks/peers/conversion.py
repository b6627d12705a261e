"""One conversion in a process of its own: its crash, its stall and its memory stay there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from egeunet.model.atomic import explained
from egeunet.model.errors import InputError

#: Seconds; the slowest tool takes one minute on an idle core.
TIME_LIMIT = 1800
#: The line that the process prints last, before its JSON.
RESULT = "egeunet-peer-result: "
#: What a traceback's last line begins with: the type of the error.
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ERROR = re.compile(r"[\w.]*(Error|Exception|Failure|Exit)\b")


def convert_in_a_process(
    peer: str, source: Path, out: Path, log: Path, seconds: float = TIME_LIMIT
) -> dict[str, Any]:
    """Run a peer's ``convert(source, out)`` in a new interpreter.

    Args:
        peer: name in the registry.
        source: the weights, or another peer's conversion.
        out: what is to be written.
        log: takes all that the tool prints.
        seconds: it is killed after that.

    Returns:
        The contract of the weights, as a dictionary.

    Raises:
        InputError: the tool failed, crashed or took too long; the line names the log.
        OutputError: the log cannot be written.
    """
    command = [sys.executable, "-P", "-m", "egeunet.benchmarks.peers.convert"]
    command += [peer, str(source.absolute()), str(out)]
    with explained(log), log.open("wb") as file:
        # A group of its own, as tools start others: all of them end with it. Its folder is the
        # temporary one: some tools write beside whatever they are started in.
        process = subprocess.Popen(
            command,
            cwd=out.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{source}: {peer} took more than {seconds:g} s to convert it; see {log}"
            ) from None
        finally:  # also on Ctrl-C
            _end(process)
    text = log.read_text(errors="replace")
    last = text.rstrip().rpartition("\n")[2]
    if code == 0 and last.startswith(RESULT) and out.exists():
        contract: dict[str, Any] = json.loads(last.removeprefix(RESULT))
        return contract
    raise InputError(f"{source}: {peer} cannot convert it: {_reason(code, text)}; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(code: int, log: str) -> str:
    """One line that says why: the last error in the log, or how the process ended."""
    if code < 0:
        return f"it crashed (signal {-code})"
    lines = [line.strip() for line in _COLOUR.sub("", log).splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    line = (errors or lines or [f"exit code {code}"])[-1]
    return line[:200]
