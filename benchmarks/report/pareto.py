"""The page's section on trade-offs: accuracy against size and against latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import Section, note, row_link
from egeunet.benchmarks.report.panel import RADIUS, Point, front_of, panel_svg
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.sizes import KIB
from egeunet.benchmarks.report.standings import files, iou, is_timed_here, median, title

_LARGEST_RADIUS = 12.0


def pareto_section(report: Report) -> Section | None:
    """Two panels; None if no row has an IoU."""
    scored = [row for row in report["rows"] if iou(row) is not None]
    if not scored:
        return None
    target = report["target_bytes"] / KIB
    panels = [_panel(report, "Size and accuracy", "KiB", _by_size(scored), target)]
    timed = [row for row in scored if is_timed_here(row) and (median(row) or 0.0) > 0]
    if timed:
        panels.append(_panel(report, "Latency and accuracy", "ms", _by_time(timed)))
    explanation = note(
        "Up and to the left is better; the line joins what no other row beats in both. Numbers "
        "are those of the table; ▼ lies below the scale, at the value beside it. In the left "
        "panel each file stands once, and a larger circle is a slower file (its fastest row); "
        "dashed: the target."
    )
    kinds = (("own", "ours"), ("peer", "peer"), ("reference", "reference"))
    key = element("p", *(_key(kind, text) for kind, text in kinds), class_="key")
    return Section(
        "pareto", "Trade-offs", (key, element("div", *panels, class_="panels"), explanation)
    )


def _by_size(rows: Sequence[Row]) -> list[Point]:
    """A point for each file: at its best IoU, as large as its fastest median is long."""
    fastest: dict[str, float] = {}
    for row in rows:
        time = median(row)
        if time is not None and is_timed_here(row):
            fastest[row["sha256"]] = min(time, fastest.get(row["sha256"], math.inf))
    slowest = max(fastest.values(), default=0.0)
    points = []
    for row in files(sorted(rows, key=lambda row: -(iou(row) or 0.0))):
        time = fastest.get(row["sha256"])
        radius = RADIUS
        if time is not None and slowest > 0:
            radius += (_LARGEST_RADIUS - RADIUS) * math.sqrt(time / slowest)
        said = f"{row['bytes']:,} bytes"
        said += f", fastest {formatting.milliseconds(time)} ms" if time is not None else ""
        points.append(Point(row, max(row["bytes"], 1) / KIB, iou(row) or 0.0, radius, said))
    return points


def _by_time(rows: Sequence[Row]) -> list[Point]:
    points = []
    for row in rows:
        time = median(row) or 0.0
        said = f"{formatting.milliseconds(time)} ms"
        points.append(Point(row, time, iou(row) or 0.0, RADIUS, said))
    return points


def _panel(
    report: Report, name: str, unit: str, points: Sequence[Point], target: float | None = None
) -> Element:
    front = front_of(points)
    label = f"{name}; on the front: " + "; ".join(f"{title(p.row)}, {p.said}" for p in front)
    names = [
        element(
            "li",
            row_link(report, point.row),
            element("span", f"{title(point.row)}, {point.said}"),
            class_="row-label",
        )
        for point in front
    ]
    return element(
        "div",
        element("h3", name),
        element("p", f"IoU in % against {unit}", class_="note"),
        panel_svg(report, points, label, target),
        element("ol", *names, class_="front"),
        class_="panel",
    )


def _key(kind: str, text: str) -> Element:
    dot = element("circle", cx="7", cy="7", r="6", class_=f"point {kind}")
    drawing = element("svg", dot, width="14", height="14", aria_hidden="true")
    return element("span", drawing, f" {text}")
