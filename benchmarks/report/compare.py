"""What became worse, better or incomparable between two reports of egeunet-bench."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.formatting import printable
from egeunet.benchmarks.report.schema import Report, Row, check_report
from egeunet.benchmarks.report.standings import accuracy

Kind = Literal["regression", "improvement", "note"]

#: Less is rounding: sums in another order move a few border pixels of a data set.
IOU_TOLERANCE_POINTS = 0.02
MASK_IOU_TOLERANCE = 0.0005
#: Counts repeat to the instruction on one machine; another libc or kernel adds a few.
INSTRUCTIONS_TOLERANCE = 0.001


@dataclass(frozen=True)
class Change:
    """One difference between two reports.

    Attributes:
        kind: "regression", "improvement" or "note" (neither, but it must be known).
        row: id of the row; "" if it is about the whole report.
        what: "bytes", "IoU", "mask IoU", "latency", "instructions", "gate", "row" or "report".
        text: old and new value, in words.
    """

    kind: Kind
    row: str
    what: str
    text: str


@dataclass(frozen=True)
class Comparison:
    """All differences that matter, in the order of the old report's rows."""

    changes: tuple[Change, ...]
    rows_compared: int

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What became worse."""
        return tuple(change for change in self.changes if change.kind == "regression")

    def text(self) -> str:
        """For a terminal: a line each, regressions first, then one line in sum."""
        lines = []
        for kind in ("regression", "improvement", "note"):
            for change in self.changes:
                if change.kind == kind:
                    where = f"{printable(change.row)}: " if change.row else ""
                    lines.append(f"{kind:<12} {where}{change.what} {printable(change.text)}")
        worse = formatting.plural(len(self.regressions), "regression")
        rows = formatting.plural(self.rows_compared, "row")
        return "\n".join([*lines, f"{worse} in {rows} compared"])


def compare(old: Report, new: Report) -> Comparison:
    """Hold a new report against an old one, row by row (the same file name, runtime, threads).

    Bytes, instructions and gates are exact, so any increase or new failure counts.
    Accuracy is compared where both were measured on the same images. Latency is compared as
    the ratio to the same baseline, and is worse only where the two intervals are apart;
    milliseconds of two runs are not compared, since the machine was not the same twice.

    Raises:
        InputError: one of them is not a report of this schema_version.
    """
    check_report(old, "the old report")
    check_report(new, "the new report")
    after = {row["id"]: row for row in new["rows"]}
    before = {row["id"] for row in old["rows"]}
    changes = list(_whole(old, new))
    same_images = _same_images(old, new)
    for row in old["rows"]:
        if row["id"] not in after:
            changes.append(_gone(row, new))
            continue
        other = after[row["id"]]
        changes += _size(row, other)
        if same_images:
            changes += _accuracy(row, other)
        changes += _latency(row, other)
        changes += _instructions(row, other)
        changes += _gates(row, other)
    changes += [
        Change("note", row["id"], "row", "is new") for row in new["rows"] if row["id"] not in before
    ]
    return Comparison(tuple(changes), len(before & after.keys()))


def _same_images(old: Report, new: Report) -> bool:
    return bool(old["data"] == new["data"])


def _whole(old: Report, new: Report) -> Iterator[Change]:
    if not _same_images(old, new):
        shown = [f"{r['data']['images']} of {r['data']['name']}" for r in (old, new)]
        text = f"on other images ({shown[0]}, then {shown[1]}): accuracy is not compared"
        yield Change("note", "", "report", text)
    if old["reference"]["sha256"] != new["reference"]["sha256"]:
        yield Change("note", "", "report", "of other weights: differences may be theirs")
    if old["quick"] != new["quick"]:
        which = "new" if new["quick"] else "old"
        yield Change("note", "", "report", f"the {which} one was measured in quick mode")


def _gone(row: Row, new: Report) -> Change:
    reasons = [s["reason"] for s in new["skipped"] if s["runtime"] == row["runtime"]]
    text = f"is gone: {reasons[0]}" if reasons else "is gone"
    return Change("regression", row["id"], "row", text)


def _size(old: Row, new: Row) -> Iterator[Change]:
    one, two = old["bytes"], new["bytes"]
    if one != two:
        kind: Kind = "regression" if two > one else "improvement"
        yield Change(kind, old["id"], "bytes", f"{one:,} -> {two:,} ({two - one:+,})")


def _accuracy(old: Row, new: Row) -> Iterator[Change]:
    measures = (
        ("iou", "IoU", IOU_TOLERANCE_POINTS / 100),
        ("mask_iou", "mask IoU", MASK_IOU_TOLERANCE),
    )
    for name, what, tolerance in measures:
        one, two = accuracy(old, name), accuracy(new, name)
        text = f"{formatting.percent(one)} -> {formatting.percent(two)} %"
        if one is None:
            continue
        if two is None:
            yield Change("regression", old["id"], what, f"{text}: no longer measured")
        elif abs(two - one) > tolerance:
            kind: Kind = "regression" if two < one else "improvement"
            yield Change(kind, old["id"], what, f"{text} ({100 * (two - one):+.2f} points)")


def _latency(old: Row, new: Row) -> Iterator[Change]:
    one, two = old["ratio"], new["ratio"]
    if one is None or two is None:
        if one is not None:
            yield Change("regression", old["id"], "latency", "is no longer measured")
        return
    if one["baseline"] != two["baseline"]:
        text = f"not compared: against {one['baseline']}, then against {two['baseline']}"
        yield Change("note", old["id"], "latency", text)
        return
    if one["low"] <= two["high"] and two["low"] <= one["high"]:
        return
    flags = sorted(
        {flag for row in (old, new) if row["latency"] for flag in row["latency"]["flags"]}
    )
    shown = [f"{r['median']:.2f} ({r['low']:.2f}..{r['high']:.2f})" for r in (one, two)]
    text = f"ratio {shown[0]} -> {shown[1]}"
    if flags:  # a doubtful timing accuses nobody
        yield Change("note", old["id"], "latency", f"{text}; not judged: {', '.join(flags)}")
    else:
        kind: Kind = "regression" if two["low"] > one["high"] else "improvement"
        yield Change(kind, old["id"], "latency", text)


def _instructions(old: Row, new: Row) -> Iterator[Change]:
    one, two = old["instructions"], new["instructions"]
    if one is None:
        return
    if two is None:
        yield Change("regression", old["id"], "instructions", "are no longer counted")
        return
    if one["cpu"] != two["cpu"]:
        text = f"not compared: of {one['cpu']}, then of {two['cpu']}"
        yield Change("note", old["id"], "instructions", text)
    elif abs(two["total"] - one["total"]) > INSTRUCTIONS_TOLERANCE * one["total"]:
        kind: Kind = "regression" if two["total"] > one["total"] else "improvement"
        yield Change(kind, old["id"], "instructions", f"{one['total']:,} -> {two['total']:,}")


def _gates(old: Row, new: Row) -> Iterator[Change]:
    before = {gate["name"]: gate for gate in old["gates"]}
    after = {gate["name"]: gate for gate in new["gates"]}
    for name, gate in after.items():
        passed_before = name not in before or before[name]["passed"]
        if not gate["passed"] and passed_before:
            value = "not a number" if gate["value"] is None else f"{gate['value']:.6g}"
            text = f"{name} fails: {value}, {gate['kind']} {gate['limit']:g}"
            yield Change("regression", old["id"], "gate", text)
        elif gate["passed"] and not passed_before:
            yield Change("improvement", old["id"], "gate", f"{name} passes now")
    for name in before:
        if name not in after:
            yield Change("regression", old["id"], "gate", f"{name} is no longer checked")
