"""What the rows of a report come to: which pass, which are the best, what each must be called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from egeunet.benchmarks.report.formatting import printable
from egeunet.benchmarks.report.schema import Report, Row

#: Rows of this runtime were timed on other hardware than all the rest.
ELSEWHERE = "android"


@dataclass(frozen=True)
class Standings:
    """The rows that the summary names; None where no row qualifies.

    Candidates are the rows that pass all of their gates and have some; the reference is
    what they are measured against, and no candidate. Ties go to the smaller file, then to the
    earlier row.

    Attributes:
        smallest: fewest bytes.
        fastest: least median of all that were timed on the machine of the report.
        most_accurate: greatest pooled IoU against the ground truth.
        candidates: how many rows there are to choose from.
    """

    smallest: Row | None
    fastest: Row | None
    most_accurate: Row | None
    candidates: int

    @classmethod
    def of(cls, report: Report) -> Standings:
        """Choose from all rows, peers among them."""
        rows = [r for r in report["rows"] if passes(r) and not is_reference(report, r)]
        timed = [row for row in rows if median(row) is not None and is_timed_here(row)]
        scored = [row for row in rows if iou(row) is not None]
        return cls(
            smallest=_least(rows, lambda row: row["bytes"]),
            fastest=_least(timed, lambda row: _or_infinity(median(row))),
            most_accurate=_least(scored, lambda row: -(iou(row) or 0.0)),
            candidates=len(rows),
        )


def passes(row: Row) -> bool:
    """Whether the row has gates and passes them all; a row without gates proves nothing."""
    return bool(row["gates"]) and all(gate["passed"] for gate in row["gates"])


def failed(row: Row) -> bool:
    """Whether a gate of the row failed."""
    return not all(gate["passed"] for gate in row["gates"])


def is_reference(report: Report, row: Row) -> bool:
    """Whether the row runs the weights that all others are compared with."""
    return bool(row["sha256"] == report["reference"]["sha256"]) and not row["peer"]


def is_timed_here(row: Row) -> bool:
    """Whether the row's milliseconds can stand beside those of the other rows."""
    return not row["runtime"].startswith(ELSEWHERE)


def labels(report: Report, row: Row) -> tuple[str, ...]:
    """What must stand beside the row wherever it is shown."""
    found = []
    if is_reference(report, row):
        found.append("reference")
    if row["peer"]:
        found.append("peer")
    note = (row["note"] or "").casefold()
    if row["runtime"].endswith("-arm64") or "emulated" in note:
        found.append("emulated")
    if row["runtime"] == "coreml-interpreter" or "interpreter" in note:
        found.append("interpreter")
    return tuple(found)


def title(row: Row) -> str:
    """File, runtime and threads in one line."""
    return printable(f"{row['file']} · {row['runtime']} · {threads(row)}")


def threads(row: Row) -> str:
    """1 thread, 2 threads, all threads."""
    number = row["threads"]
    return "1 thread" if number == 1 else f"{number} threads" if number else "all threads"


def median(row: Row) -> float | None:
    """Median of one inference in milliseconds, if the row was timed."""
    return row["latency"]["median_ms"] if row["latency"] else None


def iou(row: Row) -> float | None:
    """Pooled IoU against the ground truth, 0..1, if accuracy was measured."""
    return row["accuracy"]["iou"] if row["accuracy"] else None


def accuracy(row: Row, name: str) -> float | None:
    """A value of the row's accuracy, None if it was not measured."""
    return row["accuracy"][name] if row["accuracy"] else None


def files(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The first row of each different file, smallest first."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row["file"], row["sha256"]), row)
    return tuple(sorted(first.values(), key=lambda row: row["bytes"]))


def pareto(items: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Indices of the (cost, value) pairs that no other beats in one and equals in the other.

    From the cheapest to the dearest; of equal pairs the first.
    """
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(items)), key=lambda i: (items[i][0], -items[i][1], i)):
        if items[index][1] > best:
            front.append(index)
            best = items[index][1]
    return tuple(front)


def _least(rows: Sequence[Row], key: Callable[[Row], float]) -> Row | None:
    return min(rows, key=lambda row: (key(row), row["bytes"]), default=None)


def _or_infinity(value: float | None) -> float:
    return float("inf") if value is None else value
