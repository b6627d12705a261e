"""The rows of a report from what was measured of each candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egeunet.benchmarks.candidates import Candidate
from egeunet.benchmarks.gates import verdicts
from egeunet.benchmarks.latency import Timing
from egeunet.benchmarks.model_file import describe_file
from egeunet.benchmarks.own_runtimes import REFERENCE
from egeunet.benchmarks.parity import Parity
from egeunet.benchmarks.ratios import ratio
from egeunet.benchmarks.runtimes import Peer
from egeunet.benchmarks.validity import Machine, flags
from egeunet.benchmarks.worker import Opened

#: The peer that ours are held against besides the reference.
RIVAL = "litert-torch"

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """All that was measured of one candidate; no timing where its speed means nothing, or
    where it failed for the reason in ``trouble``."""

    candidate: Candidate
    opened: Opened
    parity: Parity
    timing: Timing | None
    trouble: str | None = None


def rows_of(measured: Mapping[str, Measured], machine: Machine, *, synthetic: bool) -> list[Row]:
    """A row for each candidate, in order; the first is the reference and has no gates.

    Args:
        measured: by id.
        machine: what else it did.
        synthetic: the images are.
    """
    rows = []
    for index, each in enumerate(measured.values()):
        row = _row(each, machine)
        row["ratio"] = _ratio(each, measured, REFERENCE)
        row["peer_ratio"] = _ratio(each, measured, RIVAL)
        if index and not each.candidate.runtime.peer:
            judged = verdicts(row["precision"], row["accuracy"], synthetic=synthetic)
            row["gates"] = [verdict.to_dict() for verdict in judged]
        rows.append(row)
    return rows


def failed_gates(rows: list[Row]) -> list[dict[str, str]]:
    """Row and name of every gate that does not hold."""
    return [
        {"row": row["id"], "name": gate["name"]}
        for row in rows
        for gate in row["gates"]
        if not gate["passed"]
    ]


def shown_path(path: Path) -> str:
    """A path as reports show it: below the current folder, else the name only."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _row(each: Measured, machine: Machine) -> Row:
    candidate, runtime = each.candidate, each.candidate.runtime
    facts = describe_file(candidate.path)
    if isinstance(runtime, Peer):
        facts["precision"] = runtime.precision
    return {
        "id": candidate.id,
        "file": candidate.file,
        "path": shown_path(candidate.path),
        **facts,
        "runtime": runtime.name,
        "peer": runtime.peer,
        "threads": candidate.threads,
        "note": _note(each),
        "io": each.opened.precision_note,
        "accuracy": each.parity.to_dict(),
        "latency": _latency(each, machine),
        "ratio": None,
        "instructions": None,
        "gates": [],
        "where": None,
    }


def _note(each: Measured) -> str | None:
    parts = [each.candidate.runtime.note] if each.candidate.runtime.note else []
    if each.parity.reasons:
        count, images = len(each.parity.reasons), len(each.parity.ids)
        parts.append(f"no probability for {count} of {images} images: {each.parity.reasons[0]}")
    if each.trouble:
        parts.append(f"not timed: {each.trouble}")
    return "; ".join(parts) or None


def _latency(each: Measured, machine: Machine) -> Row | None:
    if each.timing is None:
        return None
    return {
        **each.timing.to_dict(),
        "load_ms": each.opened.load_ms,
        "first_ms": each.opened.first_ms,
        "peak_memory_bytes": each.opened.peak_memory_bytes,
        "flags": flags(each.timing, each.candidate.threads, machine),
    }


def _ratio(each: Measured, measured: Mapping[str, Measured], name: str) -> Row | None:
    """Against the runtime called ``name`` on as many threads, where both were timed."""
    for id, other in measured.items():
        same = (other.candidate.runtime.name, other.candidate.threads)
        if same == (name, each.candidate.threads) and other.timing and each.timing:
            return ratio(each.timing.turn_medians, other.timing.turn_medians).to_dict(id)
    return None
