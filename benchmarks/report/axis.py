"""Axes of the page's charts: values to percent of the width, and round numbers to mark."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 5)
_MOST_TICKS = 7
#: The least value that a logarithmic axis tells from zero.
_LEAST = 1e-9


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from ``low`` to ``high``.

    Attributes:
        low, high: the values at 0 and 100 percent; both positive if ``log``.
        log: logarithmic.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"an axis from {self.low} to {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic axis from {self.low}")

    @classmethod
    def around(cls, values: Iterable[float], *, log: bool = False, margin: float = 0.06) -> Axis:
        """The axis that holds all values, with a margin as a share of its length."""
        held = [max(value, _LEAST) if log else value for value in values] or [1.0]
        low, high = min(held), max(held)
        if log:
            low, high = math.log(low), math.log(high)
        slack = margin * (high - low) or max(abs(low) * 0.05, 0.05)
        low, high = low - slack, high + slack
        return cls(math.exp(low), math.exp(high), True) if log else cls(low, high)

    def percent(self, value: float) -> float:
        """Where a value stands, 0..100; beyond the ends, at the end."""
        if self.log:
            value = math.log(max(value, self.low))
            low, high = math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return min(100.0, max(0.0, 100 * (value - low) / (high - low)))

    def ticks(self) -> tuple[float, ...]:
        """Two to seven round values inside, ascending; a short axis may have fewer."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            round_ones = [step * 10.0**decade for decade in decades for step in _STEPS]
            inside = [value for value in round_ones if self.low <= value <= self.high]
            if len(inside) > _MOST_TICKS:  # whole decades only, and not all of many
                inside = [10.0**d for d in decades if self.low <= 10.0**d <= self.high]
                inside = inside[:: math.ceil(len(inside) / _MOST_TICKS)]
            if len(inside) >= 3:
                return tuple(inside)
        return self._linear_ticks()

    def _linear_ticks(self) -> tuple[float, ...]:
        span = self.high - self.low
        decade = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
        step = next(s * decade for s in (*_STEPS, 10, 20) if span / (s * decade) <= _MOST_TICKS)
        first = math.ceil(self.low / step)
        digits = 12 - math.floor(math.log10(step))  # all of a tick, however short the axis
        values = (round((first + i) * step, digits) for i in range(_MOST_TICKS + 2))
        return tuple(value for value in values if self.low <= value <= self.high)
