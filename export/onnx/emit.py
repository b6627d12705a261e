"""Write a graph as an .onnx file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from egeunet.export.graph import Graph
from egeunet.export.onnx.builder import OnnxBuilder
from egeunet.export.onnx.operators import LOWERINGS, split
from egeunet.export.splits import channel_splits
from egeunet.model.contract import ModelContract
from egeunet.model.errors import needs_extra

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

#: The metadata entry that carries the contract as JSON.
CONTRACT_KEY = "egeunet.contract"
INPUT_NAME, OUTPUT_NAME = "image", "probability"
#: Opset 20 has Gelu. With IR version 9 it is what ONNX Runtime reads since 1.17 of January 2024.
OPSET, IR_VERSION = 20, 9


def emit_onnx(graph: Graph, contract: ModelContract) -> bytes:
    """The whole file: opset 20, checked, no names but the two of its ends.

    Input ``image``: (1, C, H, W) float32, normalized as the contract says. Output
    ``probability``: (1, classes, H, W) float32, 0..1.

    Args:
        graph: of float32 operators; norms may be whole or lowered (whole is faster).
        contract: embedded as metadata entry ``egeunet.contract``.

    Raises:
        NotImplementedError: an operator or a type that has no lowering.
        MissingExtraError: onnx or onnxsim is not installed.
    """
    with needs_extra("onnx"):
        import onnx
    from egeunet.export.onnx.simplify import smallest

    model = _model(graph, contract)
    onnx.checker.check_model(model, full_check=True)  # with strict shape inference
    return bytes(smallest(model).SerializeToString(deterministic=True))


def _model(graph: Graph, contract: ModelContract) -> ModelProto:
    from onnx import helper

    b = _written(graph)
    body = helper.make_graph(
        b.nodes,
        "egeunet",
        [_port(graph, graph.input, INPUT_NAME)],
        [_port(graph, graph.output, OUTPUT_NAME)],
        b.initializers,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION)
    text = json.dumps(contract.to_dict(), separators=(",", ":"))
    helper.set_model_props(model, {CONTRACT_KEY: text})
    return model


def _written(graph: Graph) -> OnnxBuilder:
    b = OnnxBuilder(graph, INPUT_NAME)
    splits = channel_splits(graph)
    for node in graph.nodes:
        if node.output in b.names:
            continue  # a split has made it
        dtype = graph.values[node.output].dtype
        if node.op not in LOWERINGS or dtype != "float32":
            raise NotImplementedError(f"no ONNX lowering of operator {node.op!r} with type {dtype}")
        if node.op == "slice" and node.inputs[0] in splits:
            parts = splits[node.inputs[0]]
            b.names.update(zip((part.output for part in parts), split(b, parts), strict=True))
        else:
            b.names[node.output] = LOWERINGS[node.op](b, node)
    for written in b.nodes:
        for names in (written.input, written.output):
            names[:] = [OUTPUT_NAME if name == b.names[graph.output] else name for name in names]
    return b


def _port(graph: Graph, name: str, public_name: str) -> ValueInfoProto:
    from onnx import TensorProto, helper

    n, height, width, channels = graph.values[name].shape
    shape = [n, channels, height, width]
    return helper.make_tensor_value_info(public_name, TensorProto.FLOAT, shape)
