"""The page's last sections: what was skipped, on what it was measured, what it does not say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import Section, note
from egeunet.benchmarks.report.schema import Report

_NOT_MEASURED = (
    "Milliseconds are those of the machine named here, not of a phone; ratios differ on other "
    "cores.",
    "Rows marked emulated count instructions; their accuracy is that of the real ARM64 kernels, "
    "their time is not known.",
    "Rows marked interpreter show what a Core ML package says, not how Apple's runtime rounds or "
    "how fast it is.",
    "Research software: not a medical device, not for diagnosis.",
)


def skipped_section(report: Report) -> Section | None:
    """What was not run, and why; None if everything was."""
    if not report["skipped"]:
        return None
    items = []
    for entry in report["skipped"]:
        what = entry["runtime"] + (f", {entry['file']}" if entry["file"] else "")
        items.append(element("li", element("strong", what), f": {entry['reason']}"))
    return Section("skipped", "Skipped", (element("ul", *items, class_="skipped"),))


def environment_section(report: Report) -> Section:
    """Machine, versions, reference and data, as a list of terms."""
    reference, data = report["reference"], report["data"]
    entries = [
        ("data", f"{data['name']}, split {data['split']}, {data['images']:,} images"),
        ("reference", reference["file"]),
        ("reference sha256", reference["sha256"]),
        ("measured", f"{report['created']}, in {report['duration_s']:,.0f} s"),
        *_flat(report["environment"]),
    ]
    terms = []
    for name, value in entries:
        terms.append(element("div", element("dt", name), element("dd", value)))
    return Section("environment", "Environment", (element("dl", *terms),))


def reading_section() -> Section:
    """What the page does not say."""
    items = (element("li", text) for text in _NOT_MEASURED)
    more = note("Method and limits: docs/benchmarks.md of egeunet-mobile.")
    return Section("reading", "What this does not say", (element("ul", *items), more))


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values; the entries of an inner object stand in one line, "torch 2.13.0, ..."."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield name, ", ".join(f"{inner} {_text(entry)}" for inner, entry in value.items())
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return formatting.NOTHING if value is None else json.dumps(value, ensure_ascii=False)
