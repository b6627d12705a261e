"""A histogram of values that come piece by piece, without knowing their range before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

#: Bins on each side of zero. The greater side always fills more than half of its bins, so one
#: is finer than a fourth of a step of int8 over the whole range.
BINS = 2048
#: Smallest width of a bin: values below are zero in float32 arithmetic anyway.
_SMALLEST_WIDTH = 2.0**-120


class Histogram:
    """Counts in equal bins whose edges are multiples of a power of two.

    Bins double their width when a value lies beyond them, and neighbours merge: as zero is
    an edge that never moves, no count is ever divided.

    Attributes:
        counts: int64 (2 * BINS,); bin i holds values from (i - BINS) * width to
            (i - BINS + 1) * width.
        width: of a bin; 0 before the first value.
        low, high: the extremes seen.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * BINS, np.int64)
        self.width = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, values: Tensor) -> None:
        """Count every value of a finite float32 tensor of any shape, not empty."""
        import torch

        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        peak = max(-low, high, _SMALLEST_WIDTH)
        needed = 2.0 ** math.ceil(math.log2(peak / BINS))
        self.width = self.width or max(needed, _SMALLEST_WIDTH)
        while self.width < needed:
            self._widen()
        reach = BINS * self.width
        found = torch.histc(values, 2 * BINS, -reach, reach)
        self.counts += found.numpy().astype(np.int64)

    def edges(self) -> NDArray[np.float64]:
        """(2 * BINS + 1,) float64, ascending."""
        return np.arange(-BINS, BINS + 1, dtype=np.float64) * self.width

    def quantile(self, share: float) -> float:
        """The value that ``share`` (0..1) of the counts lie below, straight within a bin and
        never beyond the extremes."""
        cumulated = np.concatenate(([0], np.cumsum(self.counts)))
        # Empty bins at both ends would make the ends of the curve ambiguous.
        first, last = np.flatnonzero(self.counts)[[0, -1]]
        kept = slice(first, last + 2)
        value = np.interp(share * cumulated[-1], cumulated[kept], self.edges()[kept])
        return float(np.clip(value, self.low, self.high))

    def _widen(self) -> None:
        merged = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.zeros_like(self.counts)
        self.counts[BINS // 2 : BINS // 2 + BINS] = merged
        self.width *= 2
