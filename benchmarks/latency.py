"""Latency of several candidates in one run, taking turns so that noise hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Latency:
    """Times of single inferences of one candidate, in milliseconds, in order."""

    samples_ms: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """The time within which ``percent`` of the runs ended."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def median(self) -> float:
        """The time to quote."""
        return self.percentile(50)

    def to_dict(self) -> dict[str, float | list[float]]:
        """Median, p90, p95, p99 and minimum, and the raw samples."""
        return {
            "median_ms": self.median,
            **{f"p{percent}_ms": self.percentile(percent) for percent in (90, 95, 99)},
            "min_ms": min(self.samples_ms),
            "samples_ms": list(self.samples_ms),
        }


def measure(
    candidates: Mapping[str, Callable[[], object]], *, runs: int = 50, warmup: int = 5
) -> dict[str, Latency]:
    """Time each candidate ``runs`` times, in turns A B C A B C.

    Raises:
        InputError: fewer than one run.
    """
    if runs < 1 or warmup < 0:
        raise InputError(f"runs must be at least 1 and warm-up at least 0, got {runs}, {warmup}")
    for _ in range(warmup):
        for infer in candidates.values():
            infer()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, infer in candidates.items():
            start = time.perf_counter()
            infer()
            samples[name].append(1000 * (time.perf_counter() - start))
    return {name: Latency(tuple(times)) for name, times in samples.items()}


def ratio(candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the ratios of neighbouring runs: what machine noise hurts least."""
    return float(np.median(np.divide(candidate, baseline)))
