"""What a JSON value may be: small frozen descriptions that name the first value that is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

#: Greatest magnitude of any number; far beyond everything measured, and safe to draw.
LARGEST = 1e15


class Shape(Protocol):
    """A description of a JSON value."""

    def problem(self, value: object, where: str) -> str | None:
        """What is wrong with ``value``, which stands at ``where``; None if nothing is."""


@dataclass(frozen=True)
class Anything:
    """Any value; for what is only shown, never computed with."""

    def problem(self, value: object, where: str) -> str | None:
        """Never a problem."""
        return None


@dataclass(frozen=True)
class Text:
    """A string, one of ``choices`` if there are any."""

    choices: tuple[str, ...] = ()

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        if not isinstance(value, str):
            return _expected("a string", value, where)
        if self.choices and value not in self.choices:
            return _expected(f"one of {', '.join(self.choices)}", value, where)
        return None


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        return None if isinstance(value, bool) else _expected("true or false", value, where)


@dataclass(frozen=True)
class Number:
    """A finite number within ``low`` and ``high``; without a fraction if ``whole``."""

    low: float = -LARGEST
    high: float = LARGEST
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        kind = "a whole number" if self.whole else "a number"
        allowed = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed):
            return _expected(kind, value, where)
        if not self.low <= value <= self.high:  # also refuses NaN; int and float compare exactly
            return _expected(f"{kind} in {self.low:g}..{self.high:g}", value, where)
        return None


#: A count, a number of bytes.
COUNT = Number(low=0, whole=True)
#: A share, a score: 0..1.
SHARE = Number(low=0, high=1)
#: Milliseconds, seconds.
DURATION = Number(low=0)


@dataclass(frozen=True)
class Nullable:
    """``shape`` or null; null stands for "not measured" or "undefined"."""

    shape: Shape

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        return None if value is None else self.shape.problem(value, where)


@dataclass(frozen=True)
class ListOf:
    """A list of at least ``at_least`` values of one shape."""

    shape: Shape
    at_least: int = 0

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        if not isinstance(value, list):
            return _expected("a list", value, where)
        if len(value) < self.at_least:
            return f"{where} has {len(value)} entries, expected at least {self.at_least}"
        problems = (self.shape.problem(item, f"{where}[{i}]") for i, item in enumerate(value))
        return next((problem for problem in problems if problem), None)


@dataclass(frozen=True)
class MapOf:
    """An object with any keys, whose values are of one shape."""

    shape: Shape

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        if not isinstance(value, dict):
            return _expected("an object", value, where)
        problems = (self.shape.problem(item, f"{where}.{key}") for key, item in value.items())
        return next((problem for problem in problems if problem), None)


@dataclass(frozen=True)
class Object:
    """An object with at least these keys; more may be there and are let through."""

    keys: Mapping[str, Shape] = field(default_factory=dict)

    def problem(self, value: object, where: str) -> str | None:
        """See :class:`Shape`."""
        if not isinstance(value, dict):
            return _expected("an object", value, where)
        prefix = f"{where}." if where else ""
        for key, shape in self.keys.items():
            if key not in value:
                return f"{prefix}{key} is missing"
            problem = shape.problem(value[key], prefix + key)
            if problem:
                return problem
        return None


def _expected(what: str, value: object, where: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        shown = str(value)
    else:
        shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{where or 'the report'} is {shown}, expected {what}"
