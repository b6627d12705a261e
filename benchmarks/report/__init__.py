"""The report of egeunet-bench: its schema, Markdown, the HTML page, pictures, comparison."""

from egeunet.benchmarks.report.compare import Change, Comparison, compare
from egeunet.benchmarks.report.html import html
from egeunet.benchmarks.report.markdown import markdown
from egeunet.benchmarks.report.pictures import (
    Evidence,
    difference_picture,
    picture_entry,
    worst_picture,
)
from egeunet.benchmarks.report.schema import SCHEMA_VERSION, Report, check_report, load_report

__all__ = [
    "SCHEMA_VERSION",
    "Change",
    "Comparison",
    "Evidence",
    "Report",
    "check_report",
    "compare",
    "difference_picture",
    "html",
    "load_report",
    "markdown",
    "picture_entry",
    "worst_picture",
]
