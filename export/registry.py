"""The formats and precisions that can be exported, by name.

Formats register here with a decorator. Precisions are entry points of the group
``egeunet.precisions``: ``quantize/`` adds int8 that way, as imports go from it to
``export/`` and never back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from egeunet.export.graph import Graph
from egeunet.export.request import ExportRequest, Source
from egeunet.model.errors import InputError

PRECISION_GROUP = "egeunet.precisions"


@dataclass(frozen=True)
class Prepared:
    """A graph ready to be written.

    Attributes:
        graph: in its final types.
        details: what the precision has to say in the report (calibration, io, ...).
    """

    graph: Graph
    details: dict[str, Any] = field(default_factory=dict)


#: Turns the deploy form of some weights into what a format writes.
Prepare = Callable[[Graph, Source, ExportRequest], Prepared]
#: Writes a prepared graph to a path (a file, or a folder for Core ML).
Write = Callable[[Prepared, Source, ExportRequest, Path], None]


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: as in ``--format``.
        suffix: of the file, with its dot.
        precisions: names of the supported ones; the first is the default.
        whole_norms: the runtime has norms of its own, so the emitter takes them whole;
            else they are dissolved into primitive operators (lean.py).
        write: the emitter.
        recipes: precisions that have to be asked for by name: ``--format all`` leaves them out.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    whole_norms: bool
    write: Write
    recipes: tuple[str, ...] = ()


_FORMATS: dict[str, Format] = {}


def register_format(
    name: str,
    suffix: str,
    precisions: tuple[str, ...],
    *,
    whole_norms: bool,
    recipes: tuple[str, ...] = (),
) -> Callable[[Write], Write]:
    """Decorator: make a function the emitter of a format."""

    def register(write: Write) -> Write:
        _FORMATS[name] = Format(name, suffix, precisions, whole_norms, write, recipes)
        return write

    return register


def formats() -> dict[str, Format]:
    """All formats by name."""
    from egeunet.export import formats as _registrations  # noqa: F401 - registers on import

    return dict(_FORMATS)


def find_format(name: str) -> Format:
    """The format called ``name``.

    Raises:
        InputError: unknown; the known ones are listed.
    """
    known = formats()
    if name not in known:
        raise InputError(f"unknown format {name!r}; known: {', '.join(sorted(known))}, all")
    return known[name]


def find_precision(name: str) -> Prepare:
    """The function that makes graphs of a precision.

    Raises:
        InputError: unknown; the known ones are listed.
    """
    known = {point.name: point for point in entry_points(group=PRECISION_GROUP)}
    if name not in known:
        raise InputError(f"unknown precision {name!r}; known: {', '.join(sorted(known))}")
    loaded: Prepare = known[name].load()
    return loaded
