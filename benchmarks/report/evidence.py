"""The page's sections that show masks: pictures, worst images, and where a file departs."""

from __future__ import annotations

import json
from typing import Any
from xml.etree.ElementTree import Element

from egeunet.benchmarks.report import formatting
from egeunet.benchmarks.report.elements import element
from egeunet.benchmarks.report.layout import (
    Cell,
    Section,
    badges,
    note,
    number_of,
    row_label,
    row_link,
    table,
)
from egeunet.benchmarks.report.schema import Report, Row
from egeunet.benchmarks.report.standings import title

_KINDS = {
    "worst": "Worst masks",
    "difference": "Where probabilities differ from the reference's",
}
#: Lines of a comparison that are shown; the JSON has them all.
_MOST_TENSORS = 40


def pictures_section(report: Report) -> Section | None:
    """The report's pictures by kind; None if there are none."""
    if not report["pictures"]:
        return None
    rows = {row["id"]: row for row in report["rows"]}
    body = []
    if report["data"]["synthetic"]:
        body.append(note("Synthetic pictures: they say nothing about real ones."))
    for kind, heading in _KINDS.items():
        figures = [_figure(report, rows, p) for p in report["pictures"] if p["kind"] == kind]
        if figures:
            body += [element("h3", heading), element("div", *figures, class_="pictures")]
    return Section("pictures", "Pictures", tuple(body))


def worst_section(report: Report) -> Section | None:
    """The images on which each row does worst; None if no row names any."""
    body = []
    for row in report["rows"]:
        for worst in row["accuracy"]["worst"] if row["accuracy"] else ():
            cells = (
                Cell((row_link(report, row),), number_of(report, row), number=True),
                Cell((title(row),), title(row)),
                Cell((worst["image"],), worst["image"]),
                *(
                    Cell((formatting.percent(worst[name]),), worst[name], number=True)
                    for name in ("iou", "reference_iou", "mask_iou")
                ),
            )
            body.append(element("tr", *(cell.element() for cell in cells)))
    if not body:
        return None
    head = [
        ("#", "Number of the row in the table of results"),
        ("Row", ""),
        ("Image", ""),
        ("IoU %", "Of the row against the ground truth"),
        ("Reference %", "IoU of the reference against the ground truth"),
        ("Mask IoU %", "Between the row's mask and the reference's"),
    ]
    caption = "Worst images of each row"
    made = table(head, body, caption=caption, numbers=frozenset({0, 3, 4, 5}))
    summary = element("summary", formatting.plural(len(body), "line"))
    return Section("worst", "Worst images", (element("details", summary, made),))


def where_section(report: Report) -> Section | None:
    """For each compared row the first tensor that departs; None if none was compared."""
    found = [_departure(report, row) for row in report["rows"] if row["where"]]
    return Section("where", "Where files depart", tuple(found)) if found else None


def _figure(report: Report, rows: dict[str, Row], picture: dict[str, Any]) -> Element:
    row = rows[picture["row"]]
    said = f"{_KINDS[picture['kind']]}: {picture['title']}, {title(row)}"
    source = f"data:image/png;base64,{picture['png_base64']}"
    image = element("img", src=source, alt=said)
    synthetic = " (synthetic)" if report["data"]["synthetic"] else ""
    text = f" {picture['title']}{synthetic}"
    caption = element("figcaption", row_link(report, row), text, *badges(report, row))
    return element("figure", image, caption)


def _departure(report: Report, row: Row) -> Element:
    where = row["where"]
    compared = f"{formatting.plural(where['compared'], 'tensor')} compared"
    if where["tensor"]:
        difference = formatting.small(where["max_abs_diff"])
        head = element(
            "p",
            "First tensor that departs: ",
            element("strong", where["tensor"]),
            f", layer {where['layer']}, largest difference {difference}; {compared}.",
        )
    else:
        head = element("p", f"No tensor departs by itself; {compared}.")
    entries: list[dict[str, object]] = where["table"][:_MOST_TENSORS]
    columns = list(dict.fromkeys(key for entry in entries for key in entry))
    body = []
    for entry in entries:
        cells = (_value_cell(entry.get(column)) for column in columns)
        body.append(element("tr", *(cell.element() for cell in cells)))
    parts: list[Element] = [row_label(report, row), head]
    if columns:
        numbers = frozenset(
            i for i, column in enumerate(columns) if _is_number(entries[0].get(column))
        )
        names = [(column.replace("_", " "), "") for column in columns]
        made = table(names, body, caption=f"Tensors of {title(row)}", numbers=numbers)
        parts.append(element("details", element("summary", "Tensor by tensor"), made))
    return element("div", *parts, class_="failure")


def _value_cell(value: object) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell((f"{value:.6g}",), value, number=True)
    if value is None:
        return Cell((formatting.NOTHING,))
    text = value if isinstance(value, str) else json.dumps(value)
    return Cell((text,), text)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
