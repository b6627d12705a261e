"""Ratios of latencies with an interval: what a noisy machine can still tell.

Two candidates that take turns see the same machine: the ratio of neighbouring turns is free
of what both of them suffer. The interval is a bootstrap in two stages (Davison and Hinkley,
Bootstrap Methods and their Application, 3.8): blocks are drawn, and turns within each drawn
block, since the turns of a block share the place in memory that opening a file gave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.model.errors import InputError

_RESAMPLES = 4000
_LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """Latency over the baseline's: median of neighbouring turns, and a 95 % interval."""

    median: float
    low: float
    high: float

    def to_dict(self, baseline: str) -> dict[str, Any]:
        """JSON-ready values; ``baseline`` is the id of the row divided by."""
        return {"baseline": baseline, **vars(self)}


def ratio(candidate: NDArray[np.float64], baseline: NDArray[np.float64], seed: int = 0) -> Ratio:
    """The ratio of two candidates that took turns.

    Args:
        candidate, baseline: times of turns, (blocks, turns), in the order in which they ran.
        seed: of the bootstrap.

    Raises:
        InputError: shapes that differ, no turn, or a time that is not positive.
    """
    if candidate.shape != baseline.shape or candidate.ndim != 2 or not candidate.size:
        raise InputError(
            f"turns of {candidate.shape} beside {baseline.shape}; expected (blocks, turns) of both"
        )
    if not (candidate > 0).all() or not (baseline > 0).all():
        raise InputError("a turn took no time; the clock is unusable")
    ratios = candidate / baseline  # (blocks, turns)
    blocks, turns = ratios.shape
    generator = np.random.default_rng(seed)
    block = generator.integers(0, blocks, (_RESAMPLES, blocks, 1))
    turn = generator.integers(0, turns, (_RESAMPLES, blocks, turns))
    medians = np.median(ratios[block, turn].reshape(_RESAMPLES, -1), axis=1)
    low, high = np.quantile(medians, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return Ratio(float(np.median(ratios)), float(low), float(high))
