"""Where the bytes of an .onnx file are, by the sizes of its protobuf messages."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx

#: In this order in every report. Constants count with their dimensions and types,
#: ``quantization`` is scales and zero points, ``values`` are the types of inputs, outputs
#: and activations, ``header`` is versions and the frames of the messages.
KINDS = (
    "weights", "biases", "other constants", "quantization", "operators", "names", "values",
    "metadata", "header",
)  # fmt: skip
#: Operator -> its inputs by kind.
_ROLES = {
    "Conv": {1: "weights", 2: "biases"},
    "ConvTranspose": {1: "weights", 2: "biases"},
    "Gemm": {1: "weights", 2: "biases"},
    "MatMul": {1: "weights"},
    "QuantizeLinear": {1: "quantization", 2: "quantization"},
    "DequantizeLinear": {1: "quantization", 2: "quantization"},
    "QLinearConv": dict.fromkeys((1, 2, 4, 5, 6, 7), "quantization") | {3: "weights", 8: "biases"},
}
#: What stands between a stored constant and the operator that uses it.
_WRAPPERS = ("DequantizeLinear", "Cast")


def explain_onnx(data: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes by kind, and operators by type.

    Raises:
        google.protobuf.message.DecodeError, ValueError: not an ONNX file.
    """
    model = onnx.ModelProto.FromString(data)
    if not model.HasField("graph"):
        raise ValueError("it holds no graph")
    graph = model.graph
    sizes = dict.fromkeys(KINDS, 0)
    roles = _roles(graph)
    for tensor in graph.initializer:
        sizes[roles.get(tensor.name, "other constants")] += _message(tensor) - _texts(tensor.name)
        sizes["names"] += _texts(tensor.name)
    for node in graph.node:
        names = _texts(node.name, *node.input, *node.output)
        sizes["operators"] += _message(node) - names
        sizes["names"] += names
    for value in (*graph.input, *graph.output, *graph.value_info):
        sizes["values"] += _message(value) - _texts(value.name)
        sizes["names"] += _texts(value.name)
    sizes["names"] += _texts(graph.name)
    sizes["metadata"] += sum(map(_message, model.metadata_props))
    sizes["metadata"] += _texts(model.producer_name, model.producer_version, model.domain)
    sizes["metadata"] += _texts(model.doc_string, graph.doc_string)
    sizes["header"] = len(data) - sum(sizes.values())
    return sizes, dict(sorted(Counter(node.op_type for node in graph.node).items()))


def _roles(graph: Any) -> dict[str, str]:
    """Kind of each constant by name; the first operator that has a name for it decides."""
    source = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type in _WRAPPERS
    }  # what was stored
    roles: dict[str, str] = {}
    for node in graph.node:
        for place, kind in _ROLES.get(node.op_type, {}).items():
            if place < len(node.input):
                name = node.input[place]
                roles.setdefault(source.get(name, name), kind)
    return roles


def _message(message: Any) -> int:
    """Bytes of a message in a field: its tag (one byte: all these fields are below 16), its
    length, its content."""
    return _framed(int(message.ByteSize()))


def _texts(*texts: str) -> int:
    """Bytes of text fields; a field that is not set takes none. An empty text in a list (an
    input left out) would take two, which are then part of its operator."""
    return sum(_framed(len(text.encode())) for text in texts if text)


def _framed(size: int) -> int:
    return 1 + max(1, -(-size.bit_length() // 7)) + size
