"""What egeunet-export --recipe takes: a file of any command of egeunet-quantize.

Every such file says its ``kind``: a JSON file at its top level, a .safetensors file in the
JSON of its metadata entry ``recipe``. A kind is added by one function here that is decorated
with it: (path, graph, source, request) -> what is written, or an :class:`InputError` that
needs no file name (it is put in front). The graph is the deploy form that the request asks
for; a kind may build another one from the source instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from egeunet.export.graph import Graph
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.model.errors import InputError

#: Makes what a format writes from a recipe's file.
FromRecipe = Callable[[Path, Graph, Source, ExportRequest], Prepared]

_KINDS: dict[str, FromRecipe] = {}


def recipe_kind(kind: str) -> Callable[[FromRecipe], FromRecipe]:
    """Decorator: make a function the reader of a kind of recipe."""

    def register(function: FromRecipe) -> FromRecipe:
        _KINDS[kind] = function
        return function

    return register


def prepared_by_recipe(
    path: Path, graph: Graph, source: Source, request: ExportRequest
) -> Prepared:
    """The int8 graph that a recipe describes; its name is in the details.

    Args:
        path: a .json or .safetensors file.
        graph: the deploy form of ``source`` that the format is written from.
        source, request: the export's.

    Raises:
        InputError: no recipe, one of an unknown kind, or one for other weights, another graph
            or another format.
    """
    kind = kind_of(path)
    if kind not in _KINDS:
        raise InputError(f"{path}: a recipe of unknown kind {kind!r}; known: {', '.join(_KINDS)}")
    try:
        prepared = _KINDS[kind](path, graph, source, request)
    except InputError as error:
        if str(path) in str(error):  # it was the reader's, which knows the file
            raise
        raise InputError(f"{path}: {error}") from error
    return replace(prepared, details={"recipe": path.name, **prepared.details})


def kind_of(path: Path) -> str:
    """What a recipe's file says it is.

    Raises:
        InputError: absent, of another suffix, or it says nothing.
    """
    readers: dict[str, Callable[[Path], Any]] = {".json": _json, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise InputError(f"{path}: a recipe is a .json or .safetensors file of egeunet-quantize")
    if not path.is_file():
        raise InputError(f"recipe not found: {path}; egeunet-quantize makes them")
    try:
        kind = readers[path.suffix](path)["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error} in it" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a recipe of egeunet-quantize ({reason})") from error
    return str(kind)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(error) from error
    return json.loads(metadata["recipe"])


@recipe_kind("egeunet calibration")
def _calibration(path: Path, graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    from egeunet.quantize.calibration import Calibration
    from egeunet.quantize.precision import int8_of
    from egeunet.quantize.recipe_match import require_match

    calibration = Calibration.load(path)
    require_match(calibration, None, graph, source, request)
    return int8_of(graph, calibration, source, request)


@recipe_kind("egeunet mixed int8 recipe")
def _mixed(path: Path, graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    from egeunet.quantize.mixed_recipe import MixedRecipe

    if request.format != "tflite":  # it was measured on that format's files
        raise InputError(f"a mixed recipe is for --format tflite, not for {request.format}")
    return MixedRecipe.load(path).prepared(graph, source, request)


@recipe_kind("egeunet static int8 recipe")
def _static(path: Path, graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    from egeunet.quantize.recipe_precision import int8_from_recipe

    return int8_from_recipe(path, source, request)
