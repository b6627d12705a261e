"""A scatter plot of rows with the front of those that none beats; SVG as wide as there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.axis import Axis
from egeunet.benchmarks.report.bars import vertical
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import number_of
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import is_reference, pareto, title

RADIUS = 6.0
#: Drawing area: x in percent of the width, y in pixels.
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 11.0, 96.0, 24.0, 272.0, 300
#: How far below the best IoU the scale may reach; the first that holds most rows is taken.
_DEPTHS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_MOST = 0.8
#: Differences of IoU below 0.01 points put no row on the front.
_DIGITS = 4
#: Pixels of the width for which labels are placed, and of a label.
_NOMINAL, _LETTER, _LINE = 440.0, 7.5, 12.0


@dataclass(frozen=True)
class Point:
    """One row in a panel.

    Attributes:
        row: what it stands for.
        cost: x, positive, smaller is better.
        value: y, IoU 0..1, greater is better.
        radius: pixels.
        said: cost in words.
    """

    row: Row
    cost: float
    value: float
    radius: float
    said: str


@dataclass(frozen=True)
class Placing:
    """Where values lie in the drawing.

    Attributes:
        x_axis, y_axis: the scales.
        floor: least value that is drawn to scale.
    """

    x_axis: Axis
    y_axis: Axis
    floor: float

    @classmethod
    def of(cls, points: Sequence[Point], target: float | None) -> Placing:
        """Scales that hold all costs and most values."""
        best = max(point.value for point in points)
        held = [sum(p.value >= best - depth for p in points) for depth in _DEPTHS]
        enough = (d for d, n in zip(_DEPTHS, held, strict=True) if n >= _MOST * len(points))
        floor = best - next(enough)
        costs = [point.cost for point in points] + ([] if target is None else [target])
        values = [max(point.value, floor) for point in points]
        return cls(
            Axis.around(costs, log=True, margin=0.1), Axis.around(values, margin=0.15), floor
        )

    def x(self, cost: float) -> float:
        """Percent of the width."""
        return _LEFT + (_RIGHT - _LEFT) * self.x_axis.percent(cost) / 100

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = self.y_axis.percent(max(value, self.floor)) / 100
        return _BOTTOM - (_BOTTOM - _TOP) * share


def front_of(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in cost and value, the cheapest first."""
    return [points[i] for i in pareto([(p.cost, round(p.value, _DIGITS)) for p in points])]


def panel_svg(
    report: Report, points: Sequence[Point], label: str, target: float | None = None
) -> Element:
    """The plot.

    Args:
        points: at least one.
        label: what a screen reader says instead.
        target: a cost to mark, or None.
    """
    placing = Placing.of(points, target)
    parts = [*_frame(placing)]
    if target is not None:
        parts.append(vertical(placing.x(target), _TOP, _BOTTOM, "target"))
    parts += _stairs(front_of(points), placing)
    # Small circles over large ones, so that none hides another.
    parts += [_circle(report, p, placing) for p in sorted(points, key=lambda p: -p.radius)]
    parts += _labels(report, points, placing)
    return element(
        "svg",
        *parts,
        width="100%",
        height=str(_HEIGHT),
        role="img",
        aria_label=label,
        class_="plot",
    )


def _frame(placing: Placing) -> Iterator[Element]:
    for value in placing.x_axis.ticks():
        x = placing.x(value)
        yield vertical(x, _TOP, _BOTTOM, "grid")
        yield _text(f"{value:g}", x, _BOTTOM + 18, "middle", "tick")
    for value in (tick for tick in placing.y_axis.ticks() if tick >= placing.floor):
        y = placing.y(value)
        yield element("line", x1=f"{_LEFT}%", x2=f"{_RIGHT}%", y1=y, y2=y, class_="grid")
        yield _text(f"{100 * value:g}", _LEFT - 1.5, y + 4, "end", "tick")


def _stairs(front: Sequence[Point], placing: Placing) -> Iterator[Element]:
    """What is reached at each cost."""
    for one, after in pairwise(front):
        x = [f"{placing.x(point.cost):.3f}%" for point in (one, after)]
        y = [placing.y(point.value) for point in (one, after)]
        yield element("line", x1=x[0], x2=x[1], y1=y[0], y2=y[0], class_="frontier")
        yield element("line", x1=x[1], x2=x[1], y1=y[0], y2=y[1], class_="frontier")


def _circle(report: Report, point: Point, placing: Placing) -> Element:
    kind = "peer" if point.row["peer"] else "own"
    kind = "reference" if is_reference(report, point.row) else kind
    number = number_of(report, point.row)
    iou = formatting.percent(point.value)
    said = f"{number}: {title(point.row)}, IoU {iou} %, {point.said}"
    place = {"cx": f"{placing.x(point.cost):.3f}%", "cy": f"{placing.y(point.value):.2f}"}
    circle = element("circle", r=point.radius, class_=f"point {kind}", **place)
    return element("a", element("title", said), circle, href=f"#row-{number}")


def _labels(report: Report, points: Sequence[Point], placing: Placing) -> Iterator[Element]:
    """A number above or below each circle, where no other number is yet."""
    taken: list[tuple[float, float, float]] = []  # centre x, baseline y, half a width: pixels
    for point in sorted(points, key=lambda p: (p.cost, p.value)):
        text = str(number_of(report, point.row))
        if point.value < placing.floor:
            text += f" ▼ {formatting.percent(point.value, 1)}"
        x, y = placing.x(point.cost), placing.y(point.value)
        centre, half = x / 100 * _NOMINAL, len(text) * _LETTER / 2
        above, below = -point.radius - 4, point.radius + _LINE
        for step in range(4):
            free = [
                y + shift
                for shift in (above - step * _LINE, below + step * _LINE)
                if y + shift < _BOTTOM
                and all(
                    abs(centre - other) > half + wide or abs(y + shift - base) >= _LINE
                    for other, base, wide in taken
                )
            ]
            if free:
                taken.append((centre, free[0], half))
                yield _text(text, x, free[0], "middle", "inside")
                break


def _text(text: str, x_percent: float, y: float, anchor: str, kind: str) -> Element:
    return element(
        "text", text, x=f"{x_percent:.3f}%", y=f"{y:.2f}", text_anchor=anchor, class_=kind
    )
