"""Horizontal charts whose labels are text of the page: they fit any width and never overlap.

A chart is a list; each entry holds a label, a drawing as wide as there is room, and a figure.
Drawings are SVG in percent of their width, so text in them keeps its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report.axis import Axis
from egeunet.benchmarks.report.elements import Child, element

_AXIS_HEIGHT = 22
#: Nearer to an end than this, in percent, a tick's text is aligned to it so as not to be cut.
_END = 6


@dataclass(frozen=True)
class Line:
    """One entry of a chart.

    Attributes:
        label: what it is about.
        drawing: SVG elements inside the line's drawing; x in percent, y in pixels.
        figure: the value in words.
    """

    label: Child
    drawing: tuple[Child, ...]
    figure: tuple[Child, ...]


def chart(
    axis: Axis,
    lines: Sequence[Line],
    *,
    height: int,
    tick: Callable[[float], str],
    unit: str,
    marks: Sequence[tuple[float, str]] = (),
) -> Element:
    """A chart with its axis below.

    Args:
        axis: from left to right.
        lines: from top to bottom.
        height: of each drawing, pixels.
        tick: text of an axis mark.
        unit: what the axis counts.
        marks: values to mark through all drawings, with their CSS class.
    """
    grid = [(axis.percent(value), "grid") for value in axis.ticks()]
    grid += [(axis.percent(value), kind) for value, kind in marks]
    entries = []
    for line in lines:
        rules = (vertical(x, 0, height, kind) for x, kind in grid)
        drawing = element(
            "svg", *rules, *line.drawing, width="100%", height=str(height), aria_hidden="true"
        )
        entries.append(
            element(
                "li",
                element("div", line.label, class_="label"),
                drawing,
                element("div", *line.figure, class_="figure"),
            )
        )
    texts = (_tick_text(axis.percent(value), tick(value)) for value in axis.ticks())
    scale = element("svg", *texts, width="100%", height=str(_AXIS_HEIGHT), aria_hidden="true")
    corner = element("div", class_="label")
    entries.append(
        element("li", corner, scale, element("div", unit, class_="figure unit"), class_="axis")
    )
    return element("ul", *entries, class_="chart")


def bar(axis: Axis, value: float, *, top: int, height: int, kind: str) -> Element:
    """A bar from the left end to a value."""
    width = max(axis.percent(value), 0.2)
    return element(
        "rect", x="0", y=str(top), width=f"{width:.3f}%", height=str(height), class_=kind, rx="2"
    )


def vertical(x_percent: float, top: float, bottom: float, kind: str) -> Element:
    """A vertical rule."""
    x = f"{x_percent:.3f}%"
    return element("line", x1=x, x2=x, y1=top, y2=bottom, class_=kind)


def _tick_text(x_percent: float, text: str) -> Element:
    anchor = "start" if x_percent < _END else "end" if x_percent > 100 - _END else "middle"
    return element("text", text, x=f"{x_percent:.3f}%", y="14", text_anchor=anchor, class_="tick")
