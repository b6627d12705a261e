"""The registered formats. Each emitter is imported when it is used: runtimes are extras."""

from __future__ import annotations

from pathlib import Path

from egeunet.export.registry import Prepared, register_format
from egeunet.export.request import ExportRequest, Source
from egeunet.model.errors import needs_extra


@register_format(
    "tflite",
    ".tflite",
    ("float32", "float16", "int8"),
    whole_norms=False,
    recipes=("int8-tuned", "int8-mixed", "int8-dynamic", "int4-mixed"),
)
def write_tflite(prepared: Prepared, source: Source, request: ExportRequest, path: Path) -> None:
    """A flatbuffer for LiteRT / TensorFlow Lite."""
    with needs_extra("tflite"):
        from egeunet.export.tflite.emit import emit_tflite
    metadata = request.metadata_for(source.contract)
    path.write_bytes(emit_tflite(prepared.graph, source.contract, metadata))


@register_format("onnx", ".onnx", ("float32", "float16", "int8"), whole_norms=True)
def write_onnx(prepared: Prepared, source: Source, request: ExportRequest, path: Path) -> None:
    """A protobuf for ONNX Runtime."""
    path.write_bytes(_onnx_bytes(prepared, source, request))


@register_format("ort", ".ort", ("float32", "float16"), whole_norms=True)
def write_ort(prepared: Prepared, source: Source, request: ExportRequest, path: Path) -> None:
    """A flatbuffer for ONNX Runtime's builds for phones."""
    with needs_extra("onnx"):
        from egeunet.export.onnx.mobile import to_ort
    path.write_bytes(to_ort(_onnx_bytes(prepared, source, request)))


def _onnx_bytes(prepared: Prepared, source: Source, request: ExportRequest) -> bytes:
    with needs_extra("onnx"):
        from egeunet.export.onnx.emit import emit_onnx
    return emit_onnx(
        prepared.graph,
        source.contract,
        request.precision,
        dynamic=request.dynamic,
        optimize=request.optimize,
    )


@register_format(
    "coreml",
    ".mlpackage",
    ("float16", "float32", "linear8", "palettized6", "palettized4"),
    whole_norms=True,
)
def write_coreml(prepared: Prepared, source: Source, request: ExportRequest, path: Path) -> None:
    """A package (a folder) for iOS 16 and later."""
    with needs_extra("coreml"):
        from egeunet.export.coreml.emit import emit_coreml
    emit_coreml(prepared.graph, source.contract, path, request.precision)
