"""What runs in a worker process: one file, opened by one runtime on one number of threads.

A process of its own makes the peak of memory that of the candidate, keeps the thread pools
of runtimes apart, and a crash or a stall costs one row of the report.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.runtimes import find_runtime
from egeunet.export.runners import Runner
from egeunet.export.runners.runner import Pixels, Probability, first_line
from egeunet.model.contract import ModelContract
from egeunet.model.errors import EgeunetError, InputError


@dataclass(frozen=True)
class Opened:
    """A file that has been opened.

    Attributes:
        contract: what it expects and gives.
        precision_note: types of its ends, in words.
        load_ms: time to open it; the runtime's library was in memory already.
        first_ms: time of the first call, with normalization and layout.
        peak_memory_bytes: of the whole process until then, None where the system does not say.
    """

    contract: ModelContract
    precision_note: str
    load_ms: float
    first_ms: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Turn:
    """Inferences of one candidate without a break.

    Attributes:
        samples_ms: time of each, in order.
        cpu_share: CPU time of the process over the time that passed; 1 = one core all the time.
    """

    samples_ms: tuple[float, ...]
    cpu_share: float


class Session:
    """Answers the requests of the benchmark; each public method is one."""

    def __init__(self, runtime: str, path: Path, threads: int) -> None:
        self._runtime, self._path, self._threads = find_runtime(runtime), path, threads
        self._runner: Runner | None = None
        self._infer: Callable[[], object] | None = None

    def prepare(self) -> None:
        """Open the file without keeping it: what it takes to import the runtime is no part of
        what it takes to open a file."""
        self._runtime.open(self._path, self._threads)

    def open(self) -> Opened:
        """Open the file and run it once, on a black image."""
        gc.collect()
        start = time.perf_counter()
        runner = self._runtime.open(self._path, self._threads)
        load_ms = _ms_since(start)
        size = (runner.contract.height, runner.contract.width)
        black = np.zeros((1, *size, 3), np.uint8)
        start = time.perf_counter()
        with suppress(InputError):  # NaN, or it fails: the images will say so one by one
            runner(black)
        first_ms = _ms_since(start)
        self._runner = runner
        return Opened(runner.contract, runner.precision_note, load_ms, first_ms, peak_memory())

    def reopen(self) -> None:
        """Open the file anew: another place in memory for the next block of turns."""
        self._infer = self._runner = None
        gc.collect()
        self._runner = self._runtime.open(self._path, self._threads)

    def probability(self, images: Pixels) -> Probability:
        """uint8 (N, H, W, 3) -> float32 (N, H, W, 1)."""
        return self._opened()(images)

    def bind(self, image: Pixels) -> None:
        """Fix the image, uint8 (1, H, W, 3), that turns run on."""
        self._infer = self._opened().bind(image)

    def turn(self, runs: int, seconds: float) -> Turn:
        """At least so many timed inferences and so many seconds, after one that is not timed:
        the turn before belonged to another process, and the caches with it."""
        infer = self._infer
        if infer is None:
            raise RuntimeError("turn before bind")
        infer()
        samples: list[float] = []
        gc.disable()
        try:
            begin, cpu = time.perf_counter(), time.process_time()
            while len(samples) < runs or time.perf_counter() - begin < seconds:
                start = time.perf_counter()
                infer()
                samples.append(_ms_since(start))
            passed = time.perf_counter() - begin
            used = time.process_time() - cpu
        finally:
            gc.enable()
        return Turn(tuple(samples), used / passed)

    def _opened(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("request before open")
        return self._runner


def serve(connection: Connection, runtime: str, path: Path, threads: int, log: Path) -> None:
    """Answer requests ``(method, arguments)`` until the other end of the pipe is gone.

    Args:
        connection: answers are ``(True, result)`` or ``(False, reason)``.
        runtime, path, threads: the candidate.
        log: takes what libraries print to standard output and standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    _redirect(log)
    session = Session(runtime, path, threads)
    while True:
        try:
            method, arguments = connection.recv()
            connection.send(_answer(session, method, arguments))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def peak_memory() -> int | None:
    """Greatest resident memory of this process in bytes, None where it cannot be known."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: its peak is inherited from the process that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def _answer(session: Session, method: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, getattr(session, method)(*arguments)
    except EgeunetError as error:
        return False, str(error)
    except Exception as error:  # a runtime may raise anything; it becomes a row's reason
        return False, f"{type(error).__name__}: {first_line(error)}"


def _redirect(log: Path) -> None:
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.close(target)


def _ms_since(start: float) -> float:
    return 1000 * (time.perf_counter() - start)
