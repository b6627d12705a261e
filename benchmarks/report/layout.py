"""The parts that the page's sections are made of: section, scroll box, badge, row label, table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report.elements import Child, element
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import labels, threads

_PIECES = re.compile(r"[^._-]*[._-]|[^._-]+")


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        name: its anchor.
        title: heading, also shown in the list of contents.
        body: what follows the heading.
    """

    name: str
    title: str
    body: tuple[Child, ...]

    def element(self) -> Element:
        """The section as HTML."""
        heading = element("h2", self.title, id=f"{self.name}-title")
        labelled = f"{self.name}-title"
        return element("section", heading, *self.body, id=self.name, aria_labelledby=labelled)


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Attributes:
        children: what is shown.
        value: what sorting compares; None sorts last, whatever the direction.
        number: right-aligned, compared as a number.
        kind: CSS class for a verdict: "good", "bad" or "".
    """

    children: tuple[Child, ...]
    value: float | str | None = None
    number: bool = False
    kind: str = ""

    def element(self, tag: str = "td") -> Element:
        """The cell as HTML."""
        kinds = f"{'number ' if self.number else ''}{self.kind}".strip()
        value = "" if self.value is None else self.value
        scope = "row" if tag == "th" else None
        return element(tag, *self.children, class_=kinds or None, data_value=value, scope=scope)


def note(*children: Child) -> Element:
    """A paragraph in small print."""
    return element("p", *children, class_="note")


def scroll_box(inner: Element, label: str) -> Element:
    """What is wider than the window scrolls in here, by keyboard as well."""
    return element("div", inner, class_="scroll", role="region", aria_label=label, tabindex="0")


def table(
    head: Sequence[tuple[str, str]],
    body: Sequence[Element],
    *,
    caption: str,
    numbers: frozenset[int] = frozenset(),
) -> Element:
    """A sortable table in its scroll box.

    Args:
        head: title and explanation of each column.
        body: ``tr`` elements.
        caption: for screen readers, and the name of the scroll box.
        numbers: columns that are right-aligned; sorted from the greatest first on demand.
    """
    heads = []
    for index, (name, explanation) in enumerate(head):
        button = element("button", name, type="button", title=explanation or None)
        kind = "number" if index in numbers else None
        heads.append(element("th", button, scope="col", class_=kind))
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
        class_="sortable",
    )
    return scroll_box(made, caption)


def badge(text: str) -> Element:
    """A label such as "peer" or "emulated"."""
    return element("span", text, class_=f"badge {text.replace(' ', '-')}")


def badges(report: Report, row: Row) -> tuple[Child, ...]:
    """All labels of a row, each after a space."""
    return tuple(part for label in labels(report, row) for part in (" ", badge(label)))


def row_link(report: Report, row: Row) -> Element:
    """The row's number in the table of results, which it keeps when that is sorted."""
    number = number_of(report, row)
    return element("a", str(number), href=f"#row-{number}", class_="row-number")


def row_label(report: Report, row: Row) -> Element:
    """Number, file, labels, and in small print runtime and threads."""
    under = element("span", f"{row['runtime']} · {threads(row)}", class_="under")
    return element(
        "span", row_link(report, row), file_label(report, row, under), class_="row-label"
    )


def file_label(report: Report, row: Row, under: Child = None) -> Element:
    """File and labels, and what else there is to say below them."""
    # A long name may break after the marks inside it, before it breaks anywhere.
    parts = (part for piece in _PIECES.findall(row["file"]) for part in (piece, element("wbr")))
    name = element("span", *parts, class_="file", title=row["path"])
    return element("span", name, *badges(report, row), under)


def number_of(report: Report, row: Row) -> int:
    """Place of the row in the report, from 1."""
    return next(i for i, other in enumerate(report["rows"], 1) if other["id"] == row["id"])
