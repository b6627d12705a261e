"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.background import (
    environment_section,
    reading_section,
    skipped_section,
)
from egeunet.benchmarks.report.distributions import latency_section
from egeunet.benchmarks.report.elements import document, element, raw
from egeunet.benchmarks.report.evidence import pictures_section, where_section, worst_section
from egeunet.benchmarks.report.instructions import instructions_section
from egeunet.benchmarks.report.layout import Section, badge
from egeunet.benchmarks.report.pareto import pareto_section
from egeunet.benchmarks.report.results_table import results_section
from egeunet.benchmarks.report.schema import Report, check_report
from egeunet.benchmarks.report.script import SCRIPT
from egeunet.benchmarks.report.sizes import size_section
from egeunet.benchmarks.report.style import STYLE
from egeunet.benchmarks.report.verdicts import gates_section, summary


def html(report: Report) -> str:
    """One self-contained page: no request leaves it, whatever the report's strings are.

    Every string is escaped; a content security policy allows the page's own style and
    script by their hashes and pictures from data: addresses, and nothing else.

    Args:
        report: of schema_version 2, see :mod:`egeunet.benchmarks.report.schema`.

    Raises:
        InputError: the report is not one.
    """
    check_report(report)
    optional = (
        results_section(report),
        gates_section(report),
        where_section(report),
        size_section(report),
        pareto_section(report),
        latency_section(report),
        instructions_section(report),
        pictures_section(report),
        worst_section(report),
        skipped_section(report),
        environment_section(report),
        reading_section(),
    )
    sections = [section for section in optional if section is not None]
    main = element("main", summary(report), *(section.element() for section in sections))
    body = element("body", _header(report, sections), main, raw("script", SCRIPT))
    return document(element("html", _head(report), body, lang="en"))


def _head(report: Report) -> Element:
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"egeunet-bench, {report['created']}"),
        raw("style", STYLE),
    )


def _header(report: Report, sections: list[Section]) -> Element:
    data = report["data"]
    marks = [badge("synthetic")] if data["synthetic"] else []
    marks += [badge("quick")] if report["quick"] else []
    images = formatting.plural(data["images"], "image")
    facts = (
        f"{images} of {data['name']} (split {data['split']})",
        str(report["environment"].get("platform", "")),
        report["created"],
    )
    title = element("h1", "egeunet-bench", *(part for mark in marks for part in (" ", mark)))
    lines = [title, element("p", " · ".join(fact for fact in facts if fact), class_="facts")]
    if data["synthetic"]:
        lines.append(
            element(
                "p",
                element("strong", "Synthetic images."),
                " Accuracies compare files with the reference; they say nothing about real skin.",
                class_="warning",
            )
        )
    if report["quick"]:
        text = "Quick mode: few runs, so latencies are rough. Quote none of them."
        lines.append(element("p", text, class_="warning"))
    links = [element("a", section.title, href=f"#{section.name}") for section in sections]
    contents = element("nav", *links, aria_label="Contents")
    return element("header", *lines, contents)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
