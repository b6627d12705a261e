"""The page's table of results: one line a row, sortable by every column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.elements import Child, element
from egeunet.benchmarks.report.layout import Cell, Section, file_label, note, number_of, table
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import accuracy, failed


@dataclass(frozen=True)
class Column:
    """A column of the table: title, explanation, and what stands in it.

    A column in which no row has anything to show is left out of the page.
    """

    title: str
    explanation: str
    cell: Callable[[Report, Row], Cell]
    number: bool = True


def results_section(report: Report) -> Section:
    """All rows, each with size, accuracy, latency and its verdicts."""
    shown = [c for c in COLUMNS if any(c.cell(report, r).value is not None for r in report["rows"])]
    body = []
    for row in report["rows"]:
        number, file, *cells = (column.cell(report, row) for column in shown)
        line = (number.element(), file.element("th"), *(cell.element() for cell in cells))
        kind = "failed" if failed(row) else None
        body.append(element("tr", *line, id=f"row-{number_of(report, row)}", class_=kind))
    head = [(column.title, column.explanation) for column in shown]
    numbers = frozenset(i for i, column in enumerate(shown) if column.number)
    hint = note("Press a heading to sort; point at it to read what it means.")
    return Section(
        "results",
        "Results",
        (table(head, body, caption="Results, one line a row", numbers=numbers), hint),
    )


def _number(report: Report, row: Row) -> Cell:
    number = number_of(report, row)
    return Cell((str(number),), number, number=True)


def _file(report: Report, row: Row) -> Cell:
    said = " · ".join(part for part in (row["precision"], row["note"]) if part)
    under: Child = element("span", said, class_="under") if said else None
    return Cell((element("div", file_label(report, row, under)),), row["file"])


def _runtime(report: Report, row: Row) -> Cell:
    return Cell((row["runtime"],), row["runtime"])


def _threads(report: Report, row: Row) -> Cell:
    return Cell((str(row["threads"] or "all"),), row["threads"], number=True)


def _bytes(report: Report, row: Row) -> Cell:
    times = formatting.times(row["bytes"], report["target_bytes"])
    text = "✓ in target" if row["within_target"] else f"✗ {times} target"
    kind = "under good" if row["within_target"] else "under bad"
    size = formatting.whole(row["bytes"])
    return Cell((size, element("span", text, class_=kind)), row["bytes"], number=True)


def _accuracy(name: str, show: Callable[[float | None], str]) -> Callable[[Report, Row], Cell]:
    def cell(report: Report, row: Row) -> Cell:
        value = accuracy(row, name)
        return Cell((show(value),), value, number=True)

    return cell


def _latency(report: Report, row: Row) -> Cell:
    latency = row["latency"]
    if latency is None:
        return Cell((formatting.NOTHING,), None, number=True)
    flags = ", ".join(latency["flags"])
    mark: Child = None
    if flags:
        mark = element("span", "⚠ ", class_="flag", title=flags, role="img", aria_label=flags)
    text = formatting.milliseconds(latency["median_ms"])
    p90 = element("span", f"p90 {formatting.milliseconds(latency['p90_ms'])}", class_="under")
    return Cell((mark, text, p90), latency["median_ms"], number=True)


def _ratio(report: Report, row: Row) -> Cell:
    ratio = row["ratio"]
    if ratio is None:
        return Cell((formatting.NOTHING,), None, number=True)
    interval = element("span", f"{ratio['low']:.2f}–{ratio['high']:.2f}", class_="under")
    return Cell((f"{ratio['median']:.2f}", interval), ratio["median"], number=True)


def _instructions(report: Report, row: Row) -> Cell:
    total = row["instructions"]["total"] if row["instructions"] else None
    return Cell((formatting.millions(total),), total, number=True)


def _gates(report: Report, row: Row) -> Cell:
    gates = row["gates"]
    if not gates:
        return Cell((formatting.NOTHING,), None)
    bad = [gate["name"] for gate in gates if not gate["passed"]]
    if not bad:
        return Cell((f"✓ all {len(gates)}",), 0, kind="good")
    names = element("span", ", ".join(bad), class_="under")
    return Cell((f"✗ {len(bad)} of {len(gates)}", names), len(bad), kind="bad")


COLUMNS = (
    Column("#", "Number of the row, which it keeps wherever it is shown", _number),
    Column("File", "What was measured; point at a name for its path", _file, number=False),
    Column("Runtime", "What ran it", _runtime, number=False),
    Column("Thr.", "Threads", _threads),
    Column("Gates", "Tolerances of export/gates.toml", _gates, number=False),
    Column("Bytes", "Of the file as it is; below, against the target", _bytes),
    Column(
        "IoU %",
        "Against the ground truth, pooled over all pixels",
        _accuracy("iou", formatting.percent),
    ),
    Column(
        "Drop",
        "IoU of the reference minus that of the row, in points",
        _accuracy("iou_drop_points", formatting.points),
    ),
    Column(
        "Dice %",
        "Against the ground truth, pooled over all pixels",
        _accuracy("dice", formatting.percent),
    ),
    Column(
        "Mask IoU",
        "Between the masks of the row and those of the reference",
        _accuracy("mask_iou", formatting.share),
    ),
    Column(
        "Max |Δp|",
        "Largest difference of a probability from the reference's",
        _accuracy("max_abs_diff", formatting.small),
    ),
    Column("ms", "Median of one inference, below p90; ⚠ the timing is doubtful", _latency),
    Column("Ratio", "Time against the baseline's in neighbouring turns, and 95 % interval", _ratio),
    Column("M instr.", "Millions of ARM64 instructions, emulated: not time", _instructions),
)
