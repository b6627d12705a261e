"""Write a graph as an .onnx file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from egeunet.export.graph import Graph, Value
from egeunet.export.onnx.builder import OnnxBuilder
from egeunet.export.onnx.filled_lanes import filled_lanes
from egeunet.export.onnx.operators import LOWERINGS, split
from egeunet.export.onnx.pixel_groups import grouped_pixels
from egeunet.export.onnx.quantized import QdqBuilder, is_integer, lower, lower_split
from egeunet.export.splits import channel_splits
from egeunet.model.contract import ModelContract
from egeunet.model.errors import needs_extra

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

#: The metadata entry that carries the contract as JSON.
CONTRACT_KEY = "egeunet.contract"
#: That of integer ends: {"input": {"scale": S, "zero_point": Z}, ...}, real = S (q - Z).
QUANTIZATION_KEY = "egeunet.quantization"
INPUT_NAME, OUTPUT_NAME = "image", "probability"
#: Opset 20 has Gelu. With IR version 9 it is what ONNX Runtime reads since 1.17 of January 2024.
OPSET, IR_VERSION = 20, 9


def emit_onnx(
    graph: Graph,
    contract: ModelContract,
    precision: str = "float32",
    *,
    dynamic: bool = False,
    optimize: str = "speed",
) -> bytes:
    """The whole file: opset 20, checked, no names but the two of its ends.

    Input ``image``: (N, C, H, W) float32, normalized as the contract says. Output
    ``probability``: (N, classes, H, W) float32, 0..1. Those of an integer graph have its types:
    uint8 pixels, and uint8 probability in units of 1/256.

    ``float16`` stores weights as float16 behind Casts, which ONNX Runtime folds when it loads
    the file, and computes in float32. Float16 operators would be 8 KB less and three times
    the error (0.006 against 0.002): ONNX Runtime has no such kernels for most of them, so on
    x86-64 it puts 75 Casts into the graph and computes in float32 all the same.

    Args:
        graph: of float32 operators; norms may be whole or lowered (whole is faster). Or an
            integer graph, which is written in QDQ form, see :mod:`egeunet.export.onnx.quantized`.
        contract: embedded as metadata entry ``egeunet.contract``.
        precision: of the stored weights, ``float32`` or ``float16``; ``int8`` for an integer graph.
        dynamic: any batch, height and width; the graph is of :mod:`egeunet.export.onnx.dynamic`.
        optimize: of an integer graph; ``speed`` takes 25 % more bytes for kernels that
            ONNX Runtime has faster routines for, ``size`` leaves them as they are.

    Raises:
        InputError: a weight beyond the range of float16.
        NotImplementedError: an operator or a type that has no lowering.
        MissingExtraError: onnx or onnxsim is not installed.
    """
    with needs_extra("onnx"):
        import onnx
    from egeunet.export.onnx.simplify import smallest

    half = {"float32": False, "float16": True, "int8": False}[precision]
    integer = is_integer(graph)
    if integer and optimize == "speed":
        graph = grouped_pixels(filled_lanes(graph))
    model = _model(graph, contract, half=half, dynamic=dynamic)
    onnx.checker.check_model(model, full_check=True)  # with strict shape inference
    # onnxsim would fold the Casts and the quantized weights, and has nothing to compare sizes
    # by in a dynamic graph.
    result = model if half or dynamic or integer else smallest(model)
    return bytes(result.SerializeToString(deterministic=True))


def _model(
    graph: Graph, contract: ModelContract, *, half: bool = False, dynamic: bool = False
) -> ModelProto:
    from onnx import helper

    b: OnnxBuilder
    if is_integer(graph):
        b = lowered_integers(QdqBuilder(graph, INPUT_NAME))
    else:
        b = lowered(OnnxBuilder(graph, INPUT_NAME, half=half, dynamic=dynamic))
    source = _port(graph.values[graph.input], INPUT_NAME, dynamic)
    result = _port(graph.values[graph.output], OUTPUT_NAME, dynamic)
    body = helper.make_graph(b.nodes, "egeunet", [source], [result], b.initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION)
    text = json.dumps(contract.to_dict(), separators=(",", ":"))
    properties = {CONTRACT_KEY: text}
    if is_integer(graph):
        properties[QUANTIZATION_KEY] = _quantization(graph)
    helper.set_model_props(model, properties)
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
    return _with_public_output(b, b.names[graph.output])


def lowered_integers(b: QdqBuilder) -> QdqBuilder:
    """:func:`lowered` for an integer graph."""
    splits = channel_splits(b.graph)
    b.open()
    for node in b.graph.nodes:
        if node.output in b.names:
            continue  # a split has made it
        if node.op == "slice" and node.inputs[0] in splits:
            lower_split(b, splits[node.inputs[0]])
        else:
            lower(b, node)
    _with_public_output(b, b.close())
    return b


def _quantization(graph: Graph) -> str:
    """What the numbers of an integer file's ends stand for, as JSON."""
    ends = {"input": graph.values[graph.input], "output": graph.values[graph.output]}
    entries = {
        side: {
            "scale": float(end.quantization.scale[0]),
            "zero_point": int(end.quantization.zero_point[0]),
        }
        for side, end in ends.items()
        if end.quantization is not None
    }
    return json.dumps(entries, separators=(",", ":"))


def _with_public_output(b: OnnxBuilder, last: str) -> OnnxBuilder:
    for written in b.nodes:
        for names in (written.input, written.output):
            names[:] = [OUTPUT_NAME if name == last else name for name in names]
    return b


def _port(value: Value, public_name: str, dynamic: bool) -> ValueInfoProto:
    from onnx import TensorProto, helper

    n, height, width, channels = value.shape
    shape: list[int | str] = [n, channels, height, width]
    if dynamic:
        shape = ["batch", channels, "height", "width"]
    types = {
        "float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8
    }  # fmt: skip
    return helper.make_tensor_value_info(public_name, types[value.dtype], shape)
