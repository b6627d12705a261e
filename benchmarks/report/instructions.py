"""The page's section on instructions: what one inference costs on an emulated ARM64 core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.axis import Axis
from egeunet.benchmarks.report.bars import Line, bar, chart
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import Section, note, number_of, row_label
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import title

_HEIGHT = 26
_SMALL = 20
#: Entries of a profile; the rest are added up in one.
_MOST = 15
_SKYLINE = 90


def instructions_section(report: Report) -> Section | None:
    """Totals of all counted rows, then each one's profile; None if nothing was counted."""
    counted = [row for row in report["rows"] if row["instructions"]]
    if not counted:
        return None
    counted.sort(key=lambda row: row["instructions"]["total"])
    warning = element(
        "p",
        element("strong", "Emulated: instructions, not time."),
        " Exact counts of one inference under an emulator; caches, memory and the cycles that an "
        "instruction takes are not modelled.",
        class_="warning",
    )
    profiles = [_profile(report, row, index == 0) for index, row in enumerate(counted)]
    return Section(
        "instructions", "ARM64 instructions", (warning, _totals(report, counted), *profiles)
    )


def _totals(report: Report, rows: Sequence[Row]) -> Element:
    axis = Axis(0, 1.04 * max(*(row["instructions"]["total"] for row in rows), 1) / 1e6)
    lines = []
    for row in rows:
        counts, kind = row["instructions"], "peer" if row["peer"] else "own"
        drawing = bar(axis, counts["total"] / 1e6, top=5, height=_HEIGHT - 10, kind=f"bar {kind}")
        figure = (
            f"{formatting.millions(counts['total'])} M",
            element("span", counts["cpu"], class_="under"),
        )
        lines.append(Line(row_label(report, row), (drawing,), figure))
    return chart(axis, lines, height=_HEIGHT, tick=lambda value: f"{value:g}", unit="M")


def _profile(report: Report, row: Row, first: bool) -> Element:
    counts = row["instructions"]
    total = counts["total"]
    shares = [
        f"{name.replace('_', ' ')} {formatting.percent(part, 1)} %"
        for name, part in counts["shares"].items()
    ]
    summary = f"{number_of(report, row)}: {title(row)}, {counts['cpu']}, {total:,} instructions"
    parts = [element("summary", summary)]
    if shares:
        parts.append(note(f"Of these: {', '.join(shares)}."))
    kernels = sorted(counts["kernels"], key=lambda entry: -entry["instructions"])
    if kernels:
        parts += [element("h4", "By kernel"), _bars(kernels, "symbol", total)]
    if counts["operators"]:
        operators = sorted(counts["operators"], key=lambda entry: -entry["instructions"])
        parts += [
            element("h4", "By operator, in the order in which they run"),
            _skyline(counts["operators"]),
            element("h4", "The dearest operators"),
            _bars(operators, "name", total),
        ]
    return element("details", *parts, open="" if first else None)


def _bars(entries: Sequence[dict[str, Any]], name: str, total: int) -> Element:
    """The greatest entries, largest first, and the sum of all others."""
    axis = Axis(0, 1.04 * max(entries[0]["instructions"], 1) / 1e6)
    lines = []
    for entry in entries[:_MOST]:
        count = entry["instructions"]
        drawing = bar(axis, count / 1e6, top=4, height=_SMALL - 8, kind="bar own")
        lines.append(_profile_line(entry[name], (drawing,), count, total))
    rest = entries[_MOST:]
    if rest:  # without a bar, which would dwarf all others
        other = sum(entry["instructions"] for entry in rest)
        lines.append(_profile_line(f"{len(rest):,} others", (), other, total))
    return chart(axis, lines, height=_SMALL, tick=lambda value: f"{value:g}", unit="M")


def _profile_line(name: str, drawing: tuple[Element, ...], count: int, total: int) -> Line:
    part = formatting.percent(count / max(total, 1), 1)
    figure = (f"{count / 1e6:,.2f} M", element("span", f" {part} %", class_="unit"))
    return Line(element("span", name, class_="symbol"), drawing, figure)


def _skyline(operators: Sequence[dict[str, Any]]) -> Element:
    """A bar for each operator in order; their names show when pointed at."""
    greatest = max(*(entry["instructions"] for entry in operators), 1)
    bars = []
    for index, entry in enumerate(operators):
        height = (_SKYLINE - 4) * entry["instructions"] / greatest
        said = f"{index + 1}: {entry['name']}, {entry['instructions']:,}"
        box = {"x": index, "width": 0.85, "y": _SKYLINE - height, "height": height}
        bars.append(element("rect", element("title", said), class_="bar own", **box))
    return element(
        "svg",
        *bars,
        width="100%",
        height=str(_SKYLINE),
        viewBox=f"0 0 {len(operators)} {_SKYLINE}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"Instructions of {len(operators)} operators in order",
        class_="skyline",
    )
