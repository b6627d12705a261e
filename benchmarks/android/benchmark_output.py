"""Numbers from what LiteRT's benchmark_model prints, over its versions since 2018.

Three families, each with and without a prefix such as ``INFO:`` or a log tag:

- ``Average inference timings in us: Warmup: W, Init: I, no stats: A`` (TF 1.12 to 2.0);
- ``Inference timings in us: Init: I, First inference: F, Warmup (avg): W, Inference (avg): A``
  (TF 2.1 and later, LiteRT's interpreter tool), with ``p5= median= p95=`` since 2024;
- ``========== BENCHMARK RESULTS ==========`` and a line a value (LiteRT's CompiledModel tool).

Sources: tensorflow/lite/tools/benchmark, tflite/tools/benchmark and
litert/tools/benchmark_litert_model.h of the public repositories.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from egeunet.model.errors import InputError

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Timing:
    """One run of benchmark_model; milliseconds and bytes, None where it prints no such value.

    Attributes:
        average_ms, deviation_ms, min_ms, max_ms, median_ms, p95_ms: of the timed inferences.
        runs, warmup: how many there were.
        load_ms: loading the file and preparing the graph.
        first_ms: the first inference of all.
        memory_bytes: growth of the process from its start, model and tool together.
        peak_memory_bytes: the largest resident memory, if the tool looked.
        threads: what the tool says it used on the CPU.

    Raises:
        InputError: an average that is not positive, or outside of minimum and maximum.
    """

    average_ms: float
    deviation_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    runs: int | None = None
    warmup: int | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        low, high = self.min_ms or 0.0, self.max_ms or math.inf
        # The average is printed with six digits, the extremes with all.
        if not 0 < self.average_ms < math.inf or not low * 0.999 <= self.average_ms <= high * 1.001:
            raise InputError(
                f"benchmark_model prints an average of {self.average_ms} ms between "
                f"{self.min_ms} and {self.max_ms}; its output cannot be trusted"
            )

    def to_latency(self, flags: list[str]) -> dict[str, Any]:
        """As the ``latency`` of a report's row: no samples, so no percentile but those printed."""
        return {
            "median_ms": self.median_ms,
            "p90_ms": None,
            "p95_ms": self.p95_ms,
            "p99_ms": None,
            "min_ms": self.min_ms,
            "max_ms": self.max_ms,
            "average_ms": self.average_ms,
            "deviation_ms": self.deviation_ms,
            "samples_ms": [],
            "runs": self.runs,
            "warmup": self.warmup,
            "load_ms": self.load_ms,
            "first_ms": self.first_ms,
            "memory_bytes": self.memory_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "flags": flags,
        }


def read_timing(output: str) -> Timing:
    """The timing in what benchmark_model printed.

    Raises:
        InputError: no line of a known version in it, or values that contradict each other.
    """
    if "BENCHMARK RESULTS" in output:
        return _compiled_model(output)
    summary = re.search(
        rf"nference timings in us: (?:Warmup: {_NUMBER}, )?Init: {_NUMBER}"
        rf"(?:, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER})?"
        rf", (?:no stats|Inference(?: \(avg\))?): {_NUMBER}",
        output,
    )
    if summary is None:
        raise _unreadable(output)
    counts = [_stat(line) for line in output[: summary.start()].splitlines() if "count=" in line]
    if not counts:
        raise _unreadable(output)
    timed, warmup = counts[-1], counts[-2] if len(counts) > 1 else {}
    first = float(summary[3]) if summary[3] else warmup.get("first", warmup.get("curr"))
    # A sequence of equal times is printed as its last one only.
    single = timed.get("curr")
    return Timing(
        average_ms=float(summary[5]) / 1000,
        deviation_ms=_ms(timed.get("std", 0.0 if "avg" not in timed else None)),
        min_ms=_ms(timed.get("min", single)),
        max_ms=_ms(timed.get("max", single)),
        median_ms=_ms(timed.get("median", single if "avg" not in timed else None)),
        p95_ms=_ms(timed.get("p95", single if "avg" not in timed else None)),
        runs=int(timed["count"]),
        warmup=int(warmup.get("count", 0)),
        load_ms=float(summary[2]) / 1000,
        first_ms=_ms(first),
        memory_bytes=_bytes(rf"Memory footprint delta.*overall={_NUMBER}", output),
        peak_memory_bytes=_bytes(rf"via periodic monitoring: {_NUMBER}", output)
        or _bytes(rf"Peak memory footprint \(MB\): .*overall={_NUMBER}", output),
        threads=_threads(output),
    )


def last_words(output: str) -> str:
    """The last line that says something, without its level, short enough for one of ours."""
    lines = [re.sub(r"^(?:INFO|WARN|WARNING|ERROR): ", "", line) for line in output.splitlines()]
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    return next(
        (line[:160] for line in reversed(lines) if line != "Benchmarking failed."), "nothing"
    )


def _compiled_model(output: str) -> Timing:
    def value(label: str) -> float | None:
        found = re.search(rf"{re.escape(label)}:\s+{_NUMBER}", output)
        return float(found[1]) if found else None

    def runs(label: str) -> int | None:
        found = re.search(rf"{re.escape(label)}:\s+{_NUMBER} ms \((\d+) runs\)", output)
        return int(found[2]) if found else None

    average = value("Inference (avg)")
    if average is None:
        raise _unreadable(output)
    return Timing(
        average_ms=average,
        deviation_ms=value("Inference (std)"),
        min_ms=value("Inference (min)"),
        max_ms=value("Inference (max)"),
        runs=runs("Inference (avg)"),
        warmup=runs("Warmup (avg)"),
        load_ms=value("Model initialization"),
        first_ms=value("Warmup (first)"),
        memory_bytes=_bytes(rf"Overall footprint:\s+{_NUMBER} MB", output),
        peak_memory_bytes=_bytes(rf"Peak memory:\s+{_NUMBER} MB", output),
    )


def _stat(line: str) -> dict[str, float]:
    """``count=50 first=1 curr=2 min=1 ...`` as numbers."""
    return {name: float(number) for name, number in re.findall(rf"(\w+)={_NUMBER}", line)}


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


def _bytes(pattern: str, output: str) -> int | None:
    """0 is what the tool prints where it could not look."""
    found = re.search(pattern, output)
    return round(float(found[1]) * _MEGABYTE) or None if found else None


def _threads(output: str) -> int | None:
    found = re.search(r"#threads used for CPU inference: \[(-?\d+)\]", output)
    found = found or re.search(r"Num threads: \[(-?\d+)\]", output)
    return int(found[1]) if found else None


def _unreadable(output: str) -> InputError:
    return InputError(
        "benchmark_model printed no timing of a version known here "
        f"({len(output.splitlines())} lines, the last: {last_words(output)!r}); use a build of "
        "TensorFlow 2.1 or later"
    )
