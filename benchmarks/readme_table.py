"""Put a report's results between two marks of a Markdown file, as `make results` does with
README.md: ``python -m egeunet.benchmarks.readme_table REPORT.json FILE.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egeunet.benchmarks.report.formatting import milliseconds, percent, points, share, whole
from egeunet.benchmarks.report.markdown import escaped
from egeunet.benchmarks.report.schema import load_report
from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError

BEGIN, END = "<!-- results: begin (make results) -->", "<!-- results: end -->"
_HEAD = ("file", "runtime", "bytes", "IoU", "drop", "Dice", "mask IoU", "ms", "ratio")


def table(report: dict[str, Any]) -> str:
    """The rows on the first thread count, each file in its first runtime, peers last.

    IoU and Dice in percent, drop in points of IoU, ratio to the reference's latency.
    """
    threads = report["rows"][0]["threads"]
    rows: list[dict[str, Any]] = []
    for row in sorted(report["rows"], key=lambda each: bool(each["peer"])):
        if row["threads"] == threads and not any(row["file"] == r["file"] for r in rows):
            rows.append(row)
    lines = [_HEAD, ("---", "---", *("---:" for _ in _HEAD[2:])), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_table(text: str, report: dict[str, Any], source: str = "the file") -> str:
    """A Markdown text with the table between its marks.

    Raises:
        InputError: the marks are not there, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise InputError(f"{source}: expected one line {BEGIN!r} and, below it, one {END!r}")
    return f"{before}{BEGIN}\n{table(report)}\n{END}{after}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    accuracy, latency, ratio = row["accuracy"] or {}, row["latency"] or {}, row["ratio"] or {}
    times = f"{ratio['median']:.2f}" if ratio else "–"
    return (
        escaped(row["file"]),
        escaped(row["runtime"]) + (" (peer)" if row["peer"] else ""),
        whole(row["bytes"]),
        percent(accuracy.get("iou")),
        points(accuracy.get("iou_drop_points")),
        percent(accuracy.get("dice")),
        share(accuracy.get("mask_iou")),
        milliseconds(latency.get("median_ms")),
        times,
    )


@command("readme_table")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see --help."""
    p = Parser(prog="readme_table", description=__doc__)
    p.add_argument("report", metavar="REPORT", type=Path, help="written by egeunet-bench --json")
    p.add_argument("file", metavar="FILE", type=Path, help="Markdown with the two marks")
    options = p.parse_args(arguments)
    report = load_report(options.report)
    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{options.file}: cannot be read ({error})") from error
    write_bytes(options.file, with_table(text, report, str(options.file)).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(None))
