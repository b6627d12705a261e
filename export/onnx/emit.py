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


def emit_onnx(
    graph: Graph, contract: ModelContract, precision: str = "float32", *, dynamic: bool = False
) -> bytes:
    """The whole file: opset 20, checked, no names but the two of its ends.

    Input ``image``: (N, C, H, W) float32, normalized as the contract says. Output
    ``probability``: (N, classes, H, W) float32, 0..1.

    ``float16`` stores weights as float16 behind Casts, which ONNX Runtime folds when it loads
    the file, and computes in float32. Float16 operators would be 8 KB less and three times
    the error (0.006 against 0.002): ONNX Runtime has no such kernels for most of them, so on
    x86-64 it puts 75 Casts into the graph and computes in float32 all the same.

    Args:
        graph: of float32 operators; norms may be whole or lowered (whole is faster).
        contract: embedded as metadata entry ``egeunet.contract``.
        precision: of the stored weights, ``float32`` or ``float16``.
        dynamic: any batch, height and width; the graph is of :mod:`egeunet.export.onnx.dynamic`.

    Raises:
        InputError: a weight beyond the range of float16.
        NotImplementedError: an operator or a type that has no lowering.
        MissingExtraError: onnx or onnxsim is not installed.
    """
    with needs_extra("onnx"):
        import onnx
    from egeunet.export.onnx.simplify import smallest

    half = {"float32": False, "float16": True}[precision]
    model = _model(graph, contract, half=half, dynamic=dynamic)
    onnx.checker.check_model(model, full_check=True)  # with strict shape inference
    # onnxsim would fold the Casts, and has nothing to compare sizes by in a dynamic graph.
    result = model if half or dynamic else smallest(model)
    return bytes(result.SerializeToString(deterministic=True))


def _model(
    graph: Graph, contract: ModelContract, *, half: bool = False, dynamic: bool = False
) -> ModelProto:
    from onnx import helper

    b = lowered(OnnxBuilder(graph, INPUT_NAME, half=half, dynamic=dynamic))
    source = _port(graph.values[graph.input].shape, INPUT_NAME, dynamic)
    result = _port(graph.values[graph.output].shape, OUTPUT_NAME, dynamic)
    body = helper.make_graph(b.nodes, "egeunet", [source], [result], b.initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION)
    text = json.dumps(contract.to_dict(), separators=(",", ":"))
    helper.set_model_props(model, {CONTRACT_KEY: text})
    return model


def lowered(b: OnnxBuilder) -> OnnxBuilder:
    """The builder with the nodes and initializers of its whole graph."""
    graph = b.graph
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


def _port(shape_nhwc: tuple[int, ...], public_name: str, dynamic: bool) -> ValueInfoProto:
    from onnx import TensorProto, helper

    n, height, width, channels = shape_nhwc
    shape: list[int | str] = [n, channels, height, width]
    if dynamic:
        shape = ["batch", channels, "height", "width"]
    return helper.make_tensor_value_info(public_name, TensorProto.FLOAT, shape)
