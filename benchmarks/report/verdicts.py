"""The top of the page and its gates: what it all comes to, what failed and why."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import (
    Cell,
    Section,
    note,
    number_of,
    row_label,
    row_link,
    table,
)
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import Standings, accuracy, failed, iou, median, title


def summary(report: Report) -> Element:
    """The verdict in a sentence, and a card each for the smallest, fastest, most accurate row."""
    best = Standings.of(report)
    return element(
        "div",
        _verdict(report, best),
        element(
            "div",
            _card(report, "Smallest file", best.smallest, *_size_of(report, best.smallest)),
            _card(report, "Fastest", best.fastest, *_speed_of(report, best.fastest)),
            _card(report, "Most accurate", best.most_accurate, *_score_of(best.most_accurate)),
            class_="cards",
        ),
        note(
            "Each among the rows that have gates and pass them all; the reference and rows "
            "without gates take no part."
        ),
    )


def gates_section(report: Report) -> Section:
    """Failed gates with their reasons in full; all others folded away in one table."""
    rows = [row for row in report["rows"] if row["gates"]]
    if not rows:
        return Section("gates", "Gates", (note("No row was held against a gate."),))
    failures = [_failure(report, row) for row in rows if failed(row)]
    count = sum(len(row["gates"]) for row in rows)
    every = element(
        "details",
        element("summary", f"All {formatting.plural(count, 'verdict')}"),
        _every_gate(report, rows),
        open=None if failures else "",
    )
    return Section("gates", "Gates", (*failures, every))


def _verdict(report: Report, best: Standings) -> Element:
    bad = sum(failed(row) for row in report["rows"])
    gated = sum(bool(row["gates"]) for row in report["rows"])
    met = best.smallest is not None and best.smallest["within_target"]
    if bad:
        text, kind = f"✗ {bad} of {formatting.plural(gated, 'gated row')} miss a gate.", "bad"
    elif gated:
        text, kind = f"✓ {formatting.plural(gated, 'gated row')}, no gate missed.", "good"
    else:
        text, kind = "No row was held against a gate: nothing is proved here.", "doubtful"
    target = f"{report['target_bytes']:,} bytes"
    size = f" {'A' if met else 'No'} file that passes all gates is within the target of {target}."
    return element("p", element("strong", text, class_=kind), size, class_="verdict")


def _card(report: Report, name: str, row: Row | None, figure: str, unit: str, more: str) -> Element:
    value = element("p", figure, " ", element("span", unit, class_="unit"), class_="value")
    who = row_label(report, row) if row else element("span", "no row qualifies", class_="under")
    small = element("p", more, class_="note") if more else None
    return element("div", element("h3", name), value, small, who, class_="card")


def _size_of(report: Report, row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return formatting.NOTHING, "bytes", ""
    target = f"target of {report['target_bytes']:,} bytes"
    times = formatting.times(row["bytes"], report["target_bytes"])
    verdict = f"✓ within the {target}" if row["within_target"] else f"✗ {times} the {target}"
    return formatting.whole(row["bytes"]), "bytes", verdict


def _speed_of(report: Report, row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return formatting.NOTHING, "ms", ""
    ratio, more = row["ratio"], "median of one inference"
    if ratio:
        base = next(r for r in report["rows"] if r["id"] == ratio["baseline"])
        more = f"median; {ratio['median']:.2f} × row {number_of(report, base)}"
    return formatting.milliseconds(median(row)), "ms", more


def _score_of(row: Row | None) -> tuple[str, str, str]:
    if row is None:
        return formatting.NOTHING, "% IoU", ""
    drop = formatting.points(accuracy(row, "iou_drop_points"))
    return formatting.percent(iou(row)), "% IoU", f"drop {drop} points from the reference"


def _failure(report: Report, row: Row) -> Element:
    bad = [gate for gate in row["gates"] if not gate["passed"]]
    items = [
        element(
            "li",
            element("strong", f"{gate['name']} {_shown(gate['value'])}", class_="bad"),
            f" — needs {_needs(gate)}. ",
            element("span", gate["reason"], class_="reason"),
        )
        for gate in bad
    ]
    return element("div", row_label(report, row), element("ul", *items), class_="failure")


def _every_gate(report: Report, rows: list[Row]) -> Element:
    body = []
    for row in rows:
        for gate in row["gates"]:
            verdict = "✓ passed" if gate["passed"] else "✗ failed"
            cells = (
                Cell((row_link(report, row),), number_of(report, row), number=True),
                Cell((title(row),), title(row)),
                Cell((gate["name"],), gate["name"]),
                Cell((_shown(gate["value"]),), gate["value"], number=True),
                Cell((_needs(gate),), gate["limit"], number=True),
                Cell((verdict,), verdict, kind="good" if gate["passed"] else "bad"),
                Cell((gate["reason"],), gate["reason"], kind="reason"),
            )
            body.append(element("tr", *(cell.element() for cell in cells)))
    head = ("#", "Row", "Gate", "Value", "Needs", "Verdict", "Why this limit")
    return table(
        [(name, "") for name in head], body, caption="All gates", numbers=frozenset({0, 3, 4})
    )


def _needs(gate: dict[str, float | str]) -> str:
    return f"{'≥' if gate['kind'] == 'min' else '≤'} {gate['limit']:g}"


def _shown(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.6g}"
