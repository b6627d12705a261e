"""Runs a model in the emulated machine and reads what the plug-in counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egeunet.benchmarks.arm64.cpus import Cpu
from egeunet.model.errors import InputError

#: The first invocation touches memory anew and fills caches; from the second on they agree.
INVOCATIONS = 3
#: Seconds; an inference takes a few.
TIME_LIMIT = 1800
SUFFIXES = (".tflite", ".onnx")

Blocks = dict[int, int]
"""Address of a translated block -> guest instructions executed in it."""


@dataclass
class Interval:
    """What was counted between two markers, cut at the split address if there was one.

    Attributes:
        threads: alive at the end, the inference's own included.
        others: instructions of all but that one; not 0 = the count depends on chance.
        parts: of that one, per block.
    """

    threads: int = 0
    others: int = 0
    parts: list[Blocks] = field(default_factory=lambda: [{}])

    @property
    def instructions(self) -> int:
        """Of all parts."""
        return sum(sum(part.values()) for part in self.parts)


@dataclass(frozen=True)
class Run:
    """One emulated run: what the guest reported and an interval for each invocation."""

    guest: dict[str, Any]
    intervals: list[Interval]


def run_model(model: Path, folder: Path, cpu: Cpu, split: int = 0) -> Run:
    """Run a model ``INVOCATIONS`` times on one thread of an emulated core.

    The input is always the same and so are environment, working folder, file name and
    addresses, so that a count repeats to the instruction.

    Args:
        model: .tflite (LiteRT with XNNPACK) or .onnx (ONNX Runtime).
        folder: made by :func:`arm64.installation.install`.
        split: address of a block at which intervals are cut into parts; 0 = none.

    Raises:
        InputError: no such model, folder not made, the runtime refuses the model, or
            another thread ran beside the inference (the count would not repeat).
    """
    if model.suffix not in SUFFIXES:
        raise InputError(f"{model}: expected {' or '.join(SUFFIXES)}, got {model.suffix!r}")
    if not model.is_file():
        raise InputError(f"model not found: {model}")
    root = folder.absolute() / "cpu" / cpu.name
    plugin = folder.absolute() / "block_counts.so"
    if not (root / "opt" / "guest.py").is_file() or not plugin.is_file():
        raise InputError(f"{folder} is not ready for counting; run the set-up command first")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        shutil.copyfile(model, work / f"model{model.suffix}")
        cut = f",split={split:x}" if split else ""
        qemu = ["qemu-aarch64", "-cpu", cpu.name, "-L", str(root), "-0", "/usr/bin/python3.11"]
        qemu += ["-plugin", f"{plugin},out={work / 'counts'}{cut}"]
        # No byte code written, no site-packages, no folder of the script on the path.
        python = [str(root / "usr" / "bin" / "python3.11"), "-B", "-s", "-S", "-P"]
        script = ["/opt/guest.py", f"model{model.suffix}", str(INVOCATIONS)]
        guest = _guest_report(["setarch", "-R", *qemu, *python, *script], work, model)
        intervals = read_counts((work / "counts").read_text())
    if len(intervals) != INVOCATIONS:
        raise InputError(f"{model}: {len(intervals)} intervals counted, expected {INVOCATIONS}")
    if others := intervals[-1].others:
        raise InputError(
            f"{model}: other threads ran {others:,} instructions during the inference; "
            "the count would not repeat"
        )
    return Run(guest, intervals)


def read_counts(text: str) -> list[Interval]:
    """The plug-in's file; see block_counts.c for its form.

    Raises:
        InputError: the file is cut short or an interval in it was never closed.
    """
    intervals: list[Interval] = []
    inside = False
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "begin":
            intervals.append(Interval())
            inside = True
        elif word == "part":
            intervals[-1].parts.append({})
        elif word == "end":
            intervals[-1].threads, intervals[-1].others = map(int, rest.split())
            inside = False
        elif word == "exit":
            if not inside:
                return intervals
        else:
            blocks = intervals[-1].parts[-1]
            address = int(word, 16)  # twice if the block was translated twice
            blocks[address] = blocks.get(address, 0) + int(rest)
    raise InputError("the counts end too early: the emulator was stopped inside an interval")


def _guest_report(command: list[str], work: Path, model: Path) -> dict[str, Any]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "PYTHONPATH": "/opt/wheels",
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # ONNX Runtime's uploader would run in a thread of its own and call home.
        "ORT_DISABLE_TELEMETRY": "1",
    }
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{model}: emulation took more than {TIME_LIMIT} s") from error
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is not on PATH; run the set-up command") from error
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        said = lines[-1] if lines else f"exit code {done.returncode}"
        raise InputError(f"{model}: the emulated runtime failed: {said}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
