"""Values as text, the same in Markdown, in the page and in a comparison."""

from __future__ import annotations

import re

#: Shown where nothing was measured.
NOTHING = "–"

#: Control characters, lone surrogates (names that are not UTF-8) and marks that turn the
#: direction of the text around them: a file name must not be able to forge what stands beside it.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]"
)


def printable(text: str) -> str:
    """Other people's text in one line: each unprintable character becomes U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def whole(value: float | None) -> str:
    """163600 -> 163,600."""
    return NOTHING if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a number of percent, no sign: 0.7701 -> 77.01."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}"


def share(value: float | None, digits: int = 4) -> str:
    """A share as it is: 0.9663. Never rounded up to 1."""
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}"
    return f"0.{'9' * digits}" if value < 1 <= float(text) else text


def points(value: float | None) -> str:
    """A drop in points, always with a sign and never "-0.00"."""
    return NOTHING if value is None else f"{round(value, 2) + 0.0:+.2f}"


def small(value: float | None) -> str:
    """A difference, two significant digits: 0.00027 -> 2.7e-04."""
    if value is None:
        return NOTHING
    return "0" if value == 0 else f"{value:.3f}" if 0.01 <= value < 1000 else f"{value:.1e}"


def milliseconds(value: float | None) -> str:
    """Three significant digits up to 1,000 ms."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def millions(value: float | None) -> str:
    """Instructions in millions: 83012345 -> 83.0."""
    return NOTHING if value is None else f"{value / 1e6:,.1f}"


def mebibytes(value: float | None) -> str:
    """Memory: 104857600 -> 100 MiB."""
    return NOTHING if value is None else f"{value / 2**20:,.0f} MiB"


def times(value: float, limit: float) -> str:
    """How many times a limit a value is: 4.7 ×; near the limit with two digits."""
    ratio = value / max(limit, 1)
    return f"{ratio:.2f} ×" if ratio < 2 else f"{ratio:,.1f} ×"


def plural(number: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
