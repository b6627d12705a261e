"""How the range of an activation is chosen from what a representative dataset shows of it.

- ``min-max``: the mean over images of each image's minimum and maximum (docs/decisions.md 6).
- ``percentile``: what lies outside is cut off, half of it on either side.
- ``mse``: the range whose int8 grid has the least mean square error (Sung et al.,
  arXiv:1511.06488; Nagel et al., arXiv:2106.08295, section 2.3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from egeunet.model.errors import InputError
from egeunet.quantize.histogram import Histogram

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("min-max", "percentile", "mse")
#: Ends tried on each side by ``mse``, evenly from the extreme to zero.
_CANDIDATES = 256


@dataclass(frozen=True)
class RangeMethod:
    """One of :data:`METHODS`.

    Attributes:
        name: which.
        percentile: the share of values kept, in percent; for ``percentile`` only.

    Raises:
        InputError: an unknown name, or a percentile outside 50..100.
    """

    name: str = "min-max"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise InputError(f"--method must be one of {', '.join(METHODS)}, got {self.name!r}")
        if not 50 <= self.percentile <= 100:
            raise InputError(
                f"--percentile is the share that is kept, 50 to 100, got {self.percentile:g}"
            )

    def __str__(self) -> str:
        return f"percentile {self.percentile:g}" if self.name == "percentile" else self.name

    def observer(self) -> Observer:
        """A new observer of one activation."""
        if self.name == "min-max":
            return _MeanExtremes()
        if self.name == "percentile":
            cut = (100 - self.percentile) / 200
            return _FromHistogram(lambda h: (h.quantile(cut), h.quantile(1 - cut)))
        return _FromHistogram(least_error_range)


class Observer(Protocol):
    """Sees an activation image by image."""

    def add(self, values: Tensor) -> None:
        """One image's values, float32, finite, any shape."""
        ...

    def range(self) -> tuple[float, float]:
        """(low, high) for what was seen, one image at least."""
        ...


def least_error_range(histogram: Histogram) -> tuple[float, float]:
    """The (low, high) with the least mean square error of 8 bits, low <= 0 <= high.

    The error of a value inside is that of a step's even noise, step^2 / 12; outside it is the
    distance from the end. Zero lies in every range, as in :func:`.int8.asymmetric`.
    """
    edges, counts = histogram.edges(), histogram.counts.astype(np.float64)
    centres = (edges[1:] + edges[:-1]) / 2
    shares = np.linspace(1, 0, _CANDIDATES, endpoint=False)
    highs = shares * histogram.high if histogram.high > 0 else np.zeros(1)
    lows = shares * histogram.low if histogram.low < 0 else np.zeros(1)
    above, beyond = _tail(counts, centres, highs)
    below, under = _tail(counts[::-1], -centres[::-1], -lows)
    step = (highs[None, :] - lows[:, None]) / 255
    inside = counts.sum() - below[:, None] - above[None, :]
    error = inside * step**2 / 12 + under[:, None] + beyond[None, :]
    row, column = np.unravel_index(int(np.argmin(error)), error.shape)
    return float(lows[row]), float(highs[column])


def _tail(
    counts: np.ndarray, centres: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many values lie above each end, and the sum of their squared distances from it."""
    first = np.searchsorted(centres, ends, side="right")

    def above(weights: np.ndarray) -> np.ndarray:
        sums = np.concatenate((np.cumsum(weights[::-1])[::-1], [0.0]))
        return np.asarray(sums[first])

    none, one, two = (above(counts * centres**power) for power in range(3))
    return none, np.maximum(two - 2 * ends * one + ends**2 * none, 0)


class _MeanExtremes:
    def __init__(self) -> None:
        self.total, self.images = np.zeros(2), 0

    def add(self, values: Tensor) -> None:
        self.total += float(values.min()), float(values.max())
        self.images += 1

    def range(self) -> tuple[float, float]:
        low, high = self.total / self.images
        return float(low), float(high)


class _FromHistogram:
    def __init__(self, choose: Callable[[Histogram], tuple[float, float]]) -> None:
        self.histogram, self.choose = Histogram(), choose

    def add(self, values: Tensor) -> None:
        self.histogram.add(values)

    def range(self) -> tuple[float, float]:
        return self.choose(self.histogram)
