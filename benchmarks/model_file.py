"""What a model file is: format, precision, bytes, and bytes of its weights."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from egeunet.benchmarks.own_runtimes import WEIGHTS
from egeunet.export.explain import explain, explainable
from egeunet.export.exporter import report_path
from egeunet.export.provenance import tree_bytes, tree_sha256
from egeunet.export.report import TARGET_BYTES
from egeunet.export.runners.runner import first_line
from egeunet.model.errors import InputError

_FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".ort": "ort", ".mlpackage": "coreml"}
#: What an int8 file has and a float file has not; float16 alike.
_INTEGER, _HALF = {"int8", "uint8"}, {"float16"}


def describe_file(path: Path) -> dict[str, Any]:
    """The facts of a row that no runtime has a share in.

    What an export report beside the file says counts only if it is about these bytes;
    otherwise the file itself is asked, as far as its format says it.

    Raises:
        InputError: not found, or it cannot be read.
    """
    if not path.exists():
        raise InputError(f"model not found: {path}; give the path of an exported or trained file")
    size, digest = tree_bytes(path), tree_sha256(path)
    written = _report_of(path, digest)
    return {
        "format": _FORMATS.get(path.suffix.lower(), path.suffix.lower().lstrip(".") or "folder"),
        "precision": written["precision"] if written else _precision(path),
        "sha256": digest,
        "bytes": size,
        "bytes_deflated": _deflated(path),
        "weight_bytes": written["weight_bytes"] if written else _weight_bytes(path),
        "within_target": size <= TARGET_BYTES,
    }


def exported_from(path: Path) -> tuple[str, str] | None:
    """sha256 of the weights that a file was exported from, and the version of this package
    that did it; None where no report beside it says so of these very bytes."""
    if not path.exists():
        return None
    written = _report_of(path, tree_sha256(path))
    if written is None:
        return None
    try:
        version = str(written["environment"]["packages"]["egeunet-mobile"])
        return str(written["source_weights"]["sha256"]), version
    except (KeyError, TypeError):  # somebody has edited it
        return None


def _report_of(path: Path, digest: str) -> dict[str, Any] | None:
    """The export report beside a file, if it is a report and about this very file."""
    beside = report_path(path)
    try:
        report = json.loads(beside.read_bytes())
    except (OSError, ValueError):  # none there, or somebody else's: then the file speaks
        return None
    wanted = ("precision", "weight_bytes", "source_weights")
    if not isinstance(report, dict) or any(name not in report for name in wanted):
        return None
    return report if report.get("sha256") == digest else None


def _deflated(path: Path) -> int:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return sum(len(zlib.compress(file.read_bytes(), 9)) for file in files)


def _precision(path: Path) -> str | None:
    """float32, float16 or int8 by the types of the constants; None where it cannot be told."""
    suffix = path.suffix.lower()
    if suffix in WEIGHTS:
        return "float32"
    if suffix not in _TYPES:
        return None
    try:
        types = _TYPES[suffix](path)
    except Exception as error:  # the parsers raise whatever damaged bytes provoke
        raise InputError(f"{path}: damaged file ({first_line(error)}); export it again") from error
    if types & _INTEGER:
        return "int8"
    return "float16" if types & _HALF else "float32"


def _tflite_types(path: Path) -> set[str]:
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name.lower() for name, code in vars(schema.TensorType).items()}
    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    return {names[graph.Tensors(index).Type()] for index in range(graph.TensorsLength())}


def _onnx_types(path: Path) -> set[str]:
    import onnx

    graph = onnx.load(path).graph
    return {onnx.TensorProto.DataType.Name(each.data_type).lower() for each in graph.initializer}


def _weight_bytes(path: Path) -> int | None:
    """Bytes of all constants; None for formats that nobody here can read."""
    if path.suffix.lower() in WEIGHTS:
        from egeunet.model import load_weights

        return sum(
            each.numel() * each.element_size() for each in load_weights(path)[0].parameters()
        )
    if not explainable(path):
        return None
    kinds = explain(path)["bytes_by_kind"]
    return sum(kinds.get(kind, 0) for kind in ("weights", "biases", "other constants"))


_TYPES: dict[str, Callable[[Path], set[str]]] = {".tflite": _tflite_types, ".onnx": _onnx_types}
