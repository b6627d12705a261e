"""HTML and SVG elements, built as a tree so that every string is escaped on its way out."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

from egeunet.benchmarks.report.formatting import printable

Child = Element | str | None
Attribute = str | float | None


def element(tag: str, *children: Child, **attributes: Attribute) -> Element:
    """An element with children (strings become text, None nothing) and attributes.

    In attribute names a final underscore is dropped (``class_``) and others become
    hyphens (``aria_label``); an attribute that is None is left out. Text and attribute
    values have their unprintable characters replaced, see :func:`printable`.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{value:.6g}"
            made.set(name.rstrip("_").replace("_", "-"), printable(text))
    return fill(made, children)


def fill(parent: Element, children: Iterable[Child]) -> Element:
    """Append children; the parent is given back."""
    for child in children:
        if isinstance(child, str):
            text = printable(child)
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + text
            else:
                parent.text = (parent.text or "") + text
        elif child is not None:
            parent.append(child)
    return parent


def raw(tag: str, text: str) -> Element:
    """A ``style`` or ``script`` element, whose text is ours and goes out as it is."""
    made = Element(tag)
    made.text = text
    return made


def document(root: Element) -> str:
    """The whole page as text."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
