"""The report as Markdown: one table, and below it what must be known to read it."""

from __future__ import annotations

import re
from collections.abc import Callable

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.formatting import printable
from egeunet.benchmarks.report.schema import Report, Row, check_report
from egeunet.benchmarks.report.standings import Standings, accuracy, failed, labels, median, title

#: What Markdown or HTML inside it would take for more than text.
#: An underscore inside a word means nothing to it.
_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~&!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def markdown(report: Report) -> str:
    """A GitHub-flavoured table with a line a row, and notes; strings are escaped.

    A column in which no row has anything is left out. Ends without a line feed.

    Args:
        report: of schema_version 2, see :mod:`egeunet.benchmarks.report.schema`.

    Raises:
        InputError: the report is not one.
    """
    check_report(report)
    rows = report["rows"]
    cells = {name: [cell(report, row) for row in rows] for name, cell, _ in _COLUMNS}
    shown = [
        (name, right) for name, _, right in _COLUMNS if set(cells[name]) - {formatting.NOTHING}
    ]
    if len({row["threads"] for row in rows}) == 1:
        shown = [column for column in shown if column[0] != "threads"]
    lines = [
        _line([name for name, _ in shown]),
        "|" + "|".join("---:" if right else "---" for _, right in shown) + "|",
        *(_line([cells[name][index] for name, _ in shown]) for index in range(len(rows))),
    ]
    return "\n".join(
        [*lines, "", *_summary(report), *_failures(report), *_skipped(report), _key(report)]
    )


def escaped(text: str) -> str:
    """Other people's text as Markdown text, one line."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _file(report: Report, row: Row) -> str:
    marks = labels(report, row)
    return escaped(row["file"]) + (f" ({', '.join(marks)})" if marks else "")


def _target(report: Report, row: Row) -> str:
    return "met" if row["within_target"] else formatting.times(row["bytes"], report["target_bytes"])


def _scored(name: str, show: Callable[[float | None], str]) -> Callable[[Report, Row], str]:
    return lambda _, row: show(accuracy(row, name))


def _milliseconds(report: Report, row: Row) -> str:
    flags = row["latency"]["flags"] if row["latency"] else ()
    return formatting.milliseconds(median(row)) + (
        f" ({escaped(', '.join(flags))})" if flags else ""
    )


def _ratio(report: Report, row: Row) -> str:
    ratio = row["ratio"]
    if ratio is None:
        return formatting.NOTHING
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def _instructions(report: Report, row: Row) -> str:
    return formatting.millions(row["instructions"]["total"] if row["instructions"] else None)


def _gates(report: Report, row: Row) -> str:
    if not row["gates"]:
        return formatting.NOTHING
    return "**failed**" if failed(row) else "passed"


#: Title, cell, right-aligned.
_COLUMNS: tuple[tuple[str, Callable[[Report, Row], str], bool], ...] = (
    ("file", _file, False),
    ("runtime", lambda _, row: escaped(row["runtime"]), False),
    ("threads", lambda _, row: str(row["threads"] or "all"), True),
    ("bytes", lambda _, row: formatting.whole(row["bytes"]), True),
    ("deflated", lambda _, row: formatting.whole(row["bytes_deflated"]), True),
    ("target", _target, True),
    ("IoU", _scored("iou", formatting.percent), True),
    ("drop", _scored("iou_drop_points", formatting.points), True),
    ("Dice", _scored("dice", formatting.percent), True),
    ("agreement", _scored("mask_agreement", formatting.share), True),
    ("mask IoU", _scored("mask_iou", formatting.share), True),
    ("ms", _milliseconds, True),
    ("ratio", _ratio, True),
    ("M instr.", _instructions, True),
    ("gates", _gates, False),
)


def _summary(report: Report) -> list[str]:
    best = Standings.of(report)
    named = (
        ("Smallest", best.smallest),
        ("fastest", best.fastest),
        ("most accurate", best.most_accurate),
    )
    parts = [f"{name}: {escaped(title(row))}" for name, row in named if row]
    return [f"{'; '.join(parts)} (of the rows that pass all gates).", ""] if parts else []


def _failures(report: Report) -> list[str]:
    lines = []
    for row in report["rows"]:
        for gate in row["gates"]:
            if not gate["passed"]:
                value = "not a number" if gate["value"] is None else f"{gate['value']:.6g}"
                sign = "≥" if gate["kind"] == "min" else "≤"
                lines.append(
                    f"- **{escaped(title(row))}**: {escaped(gate['name'])} {value}, needs {sign} "
                    f"{gate['limit']:g}. {escaped(gate['reason'])}"
                )
    return ["Failed gates:", "", *lines, ""] if lines else []


def _skipped(report: Report) -> list[str]:
    lines = [
        f"- {escaped(entry['runtime'])}"
        + (f", {escaped(entry['file'])}" if entry["file"] else "")
        + f": {escaped(entry['reason'])}"
        for entry in report["skipped"]
    ]
    return ["Skipped:", "", *lines, ""] if lines else []


def _key(report: Report) -> str:
    data = report["data"]
    number = {row["threads"] for row in report["rows"]}
    threads = f", {number.pop() or 'all'} thread(s)" if len(number) == 1 else ""
    images = formatting.plural(data["images"], "image")
    parts = [
        f"IoU and Dice in percent, pooled over all pixels of {images} of {escaped(data['name'])} "
        f"(split {escaped(data['split'])}); drop in points of IoU from the reference; mask IoU "
        f"between a file's masks and the reference's; target: {report['target_bytes']:,} bytes; "
        f"ms: median of one inference{threads}; ratio to the baseline with its 95 % interval, "
        f"{escaped(str(report['environment'].get('platform', 'unknown machine')))}.",
    ]
    if any(row["instructions"] for row in report["rows"]):
        parts.append("M instr.: millions of ARM64 instructions, emulated, not time.")
    if data["synthetic"]:
        parts.append("**Synthetic images: says nothing about real ones.**")
    if report["quick"]:
        parts.append("**Quick mode: latencies are rough.**")
    return " ".join(parts)
