"""The page's section on latency: how the single inferences of each row are spread."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.axis import Axis
from egeunet.benchmarks.report.bars import Line, chart, vertical
from egeunet.benchmarks.report.elements import Child, element
from egeunet.benchmarks.report.layout import Section, note, row_label
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import is_timed_here, median, threads
from egeunet.benchmarks.report.timings_table import timings

_HEIGHT = 34
_BINS = 64
#: Horizontal units of a violin's own coordinate system.
_WIDTH = 1000
#: One slow inference in a hundred must not squeeze all the others.
_SHOWN_PERCENT = 99


def latency_section(report: Report) -> Section | None:
    """A violin for each timed row, in groups that may be compared; None if nothing was timed."""
    timed = [row for row in report["rows"] if median(row) is not None]
    if not timed:
        return None
    groups: dict[str, list[Row]] = {}
    for row in sorted(timed, key=lambda row: (not is_timed_here(row), row["threads"] or 1e9)):
        where = "" if is_timed_here(row) else f", {row['runtime']}"
        groups.setdefault(threads(row) + where, []).append(row)
    body: list[Child] = []
    for name, rows in groups.items():
        body += [element("h3", name), _group(report, rows)]
    body.append(
        note(
            "Width: how many single inferences took so long (logarithmic scale; the slowest 1 % "
            "may lie outside). Tall mark: median; short mark: p90. Rows of one group were "
            "timed in turns; milliseconds are those of this machine unless the heading names "
            "another."
        )
    )
    body += [_preparation(report), timings(report, timed)]
    return Section("latency", "Latency", tuple(body))


def _group(report: Report, rows: list[Row]) -> Element:
    rows = sorted(rows, key=lambda row: median(row) or 0.0)
    axis = Axis.around([value for row in rows for value in _shown(row)], log=True, margin=0.04)
    lines = [_line(report, row, axis) for row in rows]
    return chart(axis, lines, height=_HEIGHT, tick=lambda value: f"{value:g}", unit="ms")


def _shown(row: Row) -> list[float]:
    """The values that the axis must hold: the samples but for the slowest, and the marks."""
    latency = row["latency"]
    marks = [latency[name] for name in ("median_ms", "p90_ms") if latency[name] is not None]
    samples = latency["samples_ms"]
    if not samples:
        return marks
    return [*marks, min(samples), float(np.percentile(samples, _SHOWN_PERCENT))]


def _line(report: Report, row: Row, axis: Axis) -> Line:
    latency = row["latency"]
    kind = "peer" if row["peer"] else "own"
    drawing: list[Child] = [_violin(axis, latency["samples_ms"], kind)]
    drawing.append(vertical(axis.percent(latency["median_ms"]), 3, _HEIGHT - 3, "median"))
    if latency["p90_ms"] is not None:
        drawing.append(vertical(axis.percent(latency["p90_ms"]), 11, _HEIGHT - 11, "median"))
    under = [f"p90 {formatting.milliseconds(latency['p90_ms'])}"]
    if row["ratio"]:
        under.append(f"ratio {row['ratio']['median']:.2f}")
    flags = [element("span", f"⚠ {flag}", class_="under flag") for flag in latency["flags"]]
    figure: tuple[Child, ...] = (
        f"{formatting.milliseconds(latency['median_ms'])} ms",
        element("span", ", ".join(under), class_="under"),
        *flags,
    )
    return Line(row_label(report, row), tuple(drawing), figure)


def _violin(axis: Axis, samples: Sequence[float], kind: str) -> Element | None:
    """The outline of the samples' histogram, mirrored; its area does not depend on their number."""
    if len(samples) < 2:
        return None
    places = [axis.percent(value) for value in samples]
    heights, edges = np.histogram(places, bins=_BINS, range=(0, 100))
    smooth = np.convolve(heights, (0.25, 0.5, 0.25), mode="same")
    halves = smooth / smooth.max() * (_HEIGHT / 2 - 3)
    centres = (edges[:-1] + edges[1:]) / 2 * _WIDTH / 100
    middle = _HEIGHT / 2
    inside = np.flatnonzero(halves)
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, _BINS - 1)
    span = range(first, last + 1)
    upper = [f"{centres[i]:.1f} {middle - halves[i]:.2f}" for i in span]
    lower = [f"{centres[i]:.1f} {middle + halves[i]:.2f}" for i in reversed(span)]
    path = element("path", d=f"M{'L'.join([*upper, *lower])}Z", class_=f"violin {kind}")
    return element(
        "svg",
        path,
        width="100%",
        height=str(_HEIGHT),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
    )


def _preparation(report: Report) -> Element | None:
    """Pre- and post-processing, which no row's time contains."""
    found = []
    for name, times in report["pre_post"].items():
        value = (times or {}).get("median_ms", (times or {}).get("median"))
        if isinstance(value, int | float):
            what = name.removesuffix("_ms")
            found.append(f"{what} {formatting.milliseconds(float(value))} ms")
    if not found:
        return None
    return note(f"Not in these times, medians: {', '.join(found)}.")
