"""ONNX Runtime's own file format, a flatbuffer, which its builds for phones read."""

from __future__ import annotations

import tempfile
from pathlib import Path

from egeunet.export.onnx.runtime import onnxruntime

_FATAL_ONLY = 4


def to_ort(model: bytes) -> bytes:
    """An ONNX file as an .ort file with the same operators, weights and metadata.

    As ``onnxruntime.tools.convert_onnx_models_to_ort`` does it, style "Fixed", which is one
    session that saves what it has loaded. Graph optimizations are off: in float32 they find
    nothing here that holds on every processor, in float16 they would fold the stored weights
    to float32 (+73 KB), and with ``optimize="size"`` the gate maps (+29 KB).

    Two conversions differ in the order of a list of operator names, the first 2 KB of the
    file: ONNX Runtime writes it in the order of a hash table.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "0")  # as for any processor
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ort"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()
