"""Runs a model in the emulated machine: counted, or on images."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.arm64.counts import Interval, read_counts
from egeunet.benchmarks.arm64.cpus import Cpu
from egeunet.benchmarks.arm64.installation import plugin, problem
from egeunet.model.errors import InputError

#: The first invocation touches memory anew and fills caches; from the second on they agree.
INVOCATIONS = 3
#: Seconds to start and count; an inference takes a few.
TIME_LIMIT = 1800
#: Seconds more for each image.
IMAGE_TIME_LIMIT = 60
SUFFIXES = (".tflite", ".onnx")
_GUEST = Path(__file__).parent / "guest.py"


@dataclass(frozen=True)
class Cut:
    """Where intervals are cut into parts; zeros = nowhere.

    Attributes:
        address: of a block; each time it is entered a part begins.
        start, end: so does each time any block of this range is entered (end excluded).
    """

    address: int = 0
    start: int = 0
    end: int = 0

    def argument(self) -> str:
        """The plug-in's arguments, each with its leading comma."""
        split = f",split={self.address:x}" if self.address else ""
        return split + (f",region={self.start:x}-{self.end:x}" if self.end else "")


@dataclass(frozen=True)
class Run:
    """One counted run: what the guest reported and an interval for each invocation."""

    guest: dict[str, Any]
    intervals: list[Interval]


def count_model(
    model: Path, root: Path, cpu: Cpu, cut: Cut | None = None, size: tuple[int, int] = (256, 256)
) -> Run:
    """Run a model ``INVOCATIONS`` times on one thread of an emulated core and count.

    The input is always the same and so are environment, working folder, file name and
    addresses, so that a count repeats to the instruction.

    Args:
        model: .tflite (LiteRT with XNNPACK) or .onnx (ONNX Runtime).
        root: made by :func:`arm64.installation.setup`.
        cut: where to cut the intervals.
        size: height and width of the input, for a model that leaves them open.

    Raises:
        InputError: no such model, folder not made, the runtime refuses the model, or
            another thread ran beside the inference (the count would not repeat).
    """
    _check(model, root)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        argument = f"{plugin(root)},out={work / 'counts'}{(cut or Cut()).argument()}"
        task = [*map(str, size), "count", str(INVOCATIONS)]
        guest = _run_guest(model, root, cpu, work, task, argument)
        intervals = read_counts((work / "counts").read_text())
    if len(intervals) != INVOCATIONS:
        raise InputError(f"{model}: {len(intervals)} intervals counted, expected {INVOCATIONS}")
    if others := intervals[-1].others:
        raise InputError(
            f"{model}: other threads ran {others:,} instructions during the inference; "
            "the count would not repeat"
        )
    return Run(guest, intervals)


def run_batches(model: Path, root: Path, cpu: Cpu, batches: NDArray[Any]) -> NDArray[Any]:
    """The first output of a model for each batch, from one start of the emulated machine.

    Args:
        model: .tflite or .onnx with one input.
        root: made by :func:`arm64.installation.setup`.
        batches: (K, *shape of the model's input), in its dtype: stored values.

    Returns:
        (K, *shape of the output), stored values.

    Raises:
        InputError: as :func:`count_model`.
    """
    _check(model, root)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        np.save(work / "inputs.npy", batches, allow_pickle=False)
        seconds = TIME_LIMIT + IMAGE_TIME_LIMIT * len(batches)
        size = map(str, batches.shape[-2:])  # of (K, N, C, H, W); LiteRT's are never open
        _run_guest(model, root, cpu, work, [*size, "run"], None, seconds)
        outputs: NDArray[Any] = np.load(work / "outputs.npy", allow_pickle=False)
    return outputs


def _check(model: Path, root: Path) -> None:
    if model.suffix not in SUFFIXES:
        raise InputError(f"{model}: expected {' or '.join(SUFFIXES)}, got {model.suffix!r}")
    if not model.is_file():
        raise InputError(f"model not found: {model}")
    if (why := problem(root)) is not None:
        raise InputError(why)


def _run_guest(
    model: Path,
    root: Path,
    cpu: Cpu,
    work: Path,
    arguments: list[str],
    plugin_argument: str | None,
    seconds: int = TIME_LIMIT,
) -> dict[str, Any]:
    """Run guest.py in ``work`` and give the JSON line that it prints."""
    shutil.copyfile(model, work / f"model{model.suffix}")
    shutil.copyfile(_GUEST, work / "guest.py")
    cpu_root = root.absolute() / "cpu" / cpu.name
    qemu = ["qemu-aarch64", "-cpu", cpu.name, "-L", str(cpu_root), "-0", "/usr/bin/python3.11"]
    if plugin_argument is not None:
        qemu += ["-plugin", plugin_argument]
    # No byte code written, no site-packages, no folder of the script on the path.
    python = [str(cpu_root / "usr" / "bin" / "python3.11"), "-B", "-s", "-S", "-P"]
    script = ["guest.py", f"model{model.suffix}", *arguments]
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
            ["setarch", "-R", *qemu, *python, *script],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{model}: emulation took more than {seconds} s") from error
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        said = lines[-1] if lines else f"exit code {done.returncode}"
        raise InputError(f"{model}: the emulated runtime failed: {said}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
