"""The page's table of all times: percentiles, loading, first inference, memory."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import Cell, number_of, row_link, table
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import title

_TIMES = ("min_ms", "median_ms", "p90_ms", "p95_ms", "p99_ms", "load_ms", "first_ms")
_HEAD = (
    ("#", "Number of the row in the table of results"),
    ("Row", ""),
    ("Min", "Fastest inference, ms"),
    ("Median", "ms"),
    ("p90", "ms"),
    ("p95", "ms"),
    ("p99", "ms"),
    ("Load", "From the file to the first inference, ms"),
    ("First", "First inference, ms"),
    ("Memory", "Peak of the process"),
    ("Runs", "Timed inferences"),
)


def timings(report: Report, rows: Sequence[Row]) -> Element:
    """A folded table of the rows that were timed."""
    body = [element("tr", *(cell.element() for cell in _cells(report, row))) for row in rows]
    numbers = frozenset(range(len(_HEAD))) - {1}
    made = table(_HEAD, body, caption="All times, in milliseconds", numbers=numbers)
    return element("details", element("summary", "All times, loading and memory"), made)


def _cells(report: Report, row: Row) -> list[Cell]:
    latency = row["latency"]
    memory, runs = latency["peak_memory_bytes"], latency["runs"]
    return [
        Cell((row_link(report, row),), number_of(report, row), number=True),
        Cell((title(row),), title(row)),
        *(Cell((formatting.milliseconds(latency[n]),), latency[n], number=True) for n in _TIMES),
        Cell((formatting.mebibytes(memory),), memory, number=True),
        Cell((formatting.whole(runs),), runs, number=True),
    ]
