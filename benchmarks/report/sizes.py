"""The page's section on size: each file against the target."""

from __future__ import annotations

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.axis import Axis
from egeunet.benchmarks.report.bars import Line, bar, chart, vertical
from egeunet.benchmarks.report.elements import Child, element
from egeunet.benchmarks.report.layout import Section, file_label, note, row_link
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import files

_HEIGHT = 26
KIB = 1024


def size_section(report: Report) -> Section:
    """A bar for each different file, smallest first, with the target as a line through all."""
    rows = files(report["rows"])
    target = report["target_bytes"]
    longest = max(target, *(row["bytes"] for row in rows), 1)
    axis = Axis(0, 1.04 * longest / KIB)
    lines = [_line(report, row, axis) for row in rows]
    drawing = chart(
        axis,
        lines,
        height=_HEIGHT,
        tick=lambda value: f"{value:g}",
        unit="KiB",
        marks=((target / KIB, "target"),),
    )
    met = sum(row["within_target"] for row in rows)
    said = f"{met} of {formatting.plural(len(rows), 'file')} within {target:,} bytes"
    explanation = note(
        f"{said} (dashed line). Bar: bytes as written; mark: deflated, which is what a download "
        "in an app package costs; figures in bytes."
    )
    return Section("size", "Size", (drawing, explanation))


def _line(report: Report, row: Row, axis: Axis) -> Line:
    kind = "peer" if row["peer"] else "own"
    deflated = axis.percent(row["bytes_deflated"] / KIB)
    drawing = (
        bar(axis, row["bytes"] / KIB, top=5, height=_HEIGHT - 10, kind=f"bar {kind}"),
        vertical(deflated, 3, _HEIGHT - 3, "mark"),
    )
    label = element("span", row_link(report, row), file_label(report, row), class_="row-label")
    excess = row["bytes"] - report["target_bytes"]
    verdict = "✓ met" if row["within_target"] else f"✗ +{excess:,}"
    parts = [f"{formatting.whole(row['bytes_deflated'])} deflated"]
    if row["weight_bytes"] is not None:
        parts.append(f"{formatting.whole(row['weight_bytes'])} weights")
    figure: tuple[Child, ...] = (
        f"{row['bytes']:,} ",
        element("span", verdict, class_="good" if row["within_target"] else "bad"),
        *(element("span", part, class_="under") for part in parts),
    )
    return Line(label, drawing, figure)
