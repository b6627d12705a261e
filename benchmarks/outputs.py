"""What egeunet-bench leaves: a table to read, files, and the verdict as an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egeunet.benchmarks.artefacts import NOT_KEPT
from egeunet.benchmarks.evaluation_report import check_writable, write_json
from egeunet.benchmarks.report.compare import compare
from egeunet.benchmarks.report.html import html
from egeunet.benchmarks.report.markdown import markdown
from egeunet.benchmarks.report.schema import load_report
from egeunet.model.atomic import write_bytes
from egeunet.model.errors import GateError

#: Failed gates that one line names.
_NAMED = 6


@dataclass(frozen=True)
class Outputs:
    """Where a report goes.

    Attributes:
        json, markdown, html: files, None = not written.
        old: an earlier report that this one is held against, None = none.

    Raises:
        OutputError: a file cannot be written; found out before the work.
        InputError: the earlier report is none.
    """

    json: Path | None = None
    markdown: Path | None = None
    html: Path | None = None
    old: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.json, self.markdown, self.html):
            check_writable(path)
        if self.old is not None:
            load_report(self.old)

    def give(self, report: dict[str, Any]) -> None:
        """Print the table (and what changed), and write the files."""
        before = load_report(self.old) if self.old is not None else None
        table = markdown(report)
        print(table)
        if self.json is not None:
            write_json(self.json, report)
        if self.markdown is not None:
            write_bytes(self.markdown, (table + "\n").encode())
        if self.html is not None:
            write_bytes(self.html, html(report).encode())
        if before is not None:
            print(f"\nSince {self.old}:\n{compare(before, report).text()}")


def require_gates(report: dict[str, Any]) -> None:
    """Refuse a report in which a gate does not hold, or a file was not good enough to be kept.

    Raises:
        GateError: the failed gates by row.
    """
    values = {
        (row["id"], gate["name"]): (gate["value"], gate["limit"])
        for row in report["rows"]
        for gate in row["gates"]
    }
    failed = []
    for entry in report["gates_failed"]:
        value, limit = values[entry["row"], entry["name"]]
        shown = "no number" if value is None else f"{value:.4g}"
        failed.append(f"{entry['row']} {entry['name']} {shown} (gate {limit:g})")
    failed += [s["reason"] for s in report["skipped"] if s["runtime"] == NOT_KEPT]
    if failed:
        more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise GateError(f"gates failed: {'; '.join(failed[:_NAMED])}{more}")
