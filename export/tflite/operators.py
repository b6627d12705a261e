"""One function per operator: a graph node -> a TFLite operator.

A lowering returns the builtin operator's name in the schema, its version, the
options table and constants that TFLite passes as tensors (axes, sizes). Options that
are what a reader takes where there are none are left out: eight bytes an operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from egeunet.export.graph import Graph, Node
from egeunet.export.tflite.flatbuffer import SharingBuilder

_SAME = schema.Padding.SAME
_VALID = schema.Padding.VALID


@dataclass(frozen=True)
class Lowered:
    """A TFLite operator that is not yet written.

    Attributes:
        builtin: name in the schema's BuiltinOperator.
        options: name of the options table, empty for none, and its offset.
        extra: constant tensors that follow the node's own inputs.
        float_version: the operator version that brought what a float node needs.
        integer_version: the one that brought int8.
    """

    builtin: str
    options: str = ""
    offset: int = 0
    extra: list[NDArray[Any]] = field(default_factory=list)
    float_version: int = 1
    integer_version: int = 2


Lowering = Callable[[SharingBuilder, Graph, Node], Lowered]
LOWERINGS: dict[str, Lowering] = {}


def lowering(op: str) -> Callable[[Lowering], Lowering]:
    """Register the lowering of a graph operator."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS[op] = function
        return function

    return register


@lowering("conv2d")
def _conv2d(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    dilation = node.attributes["dilation"]
    offset = b.table(
        "Conv2DOptions", Padding=_SAME, StrideW=1, StrideH=1, DilationWFactor=dilation,
        DilationHFactor=dilation, FusedActivationFunction=_activation(node),
    )  # fmt: skip
    return Lowered("CONV_2D", "Conv2DOptions", offset, integer_version=3)


@lowering("depthwise_conv2d")
def _depthwise_conv2d(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    dilation = node.attributes["dilation"]
    offset = b.table(
        "DepthwiseConv2DOptions", Padding=_SAME, StrideW=1, StrideH=1, DepthMultiplier=1,
        DilationWFactor=dilation, DilationHFactor=dilation,
        FusedActivationFunction=_activation(node),
    )  # fmt: skip
    version, extra = 1 if dilation == 1 else 2, []
    result = graph.values[node.output]
    # Without a bias LiteRT 2.3 crashes on ARM64.
    if len(node.inputs) == 2 and result.dtype == "float32":
        extra = [np.zeros(result.shape[3], np.float32)]
    return Lowered("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", offset, extra, version, 3)


@lowering("fully_connected")
def _fully_connected(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    """A 1x1 convolution with weights (O, I); of a float input one that it quantizes itself."""
    name = "FullyConnectedOptions"
    hybrid = graph.values[node.inputs[0]].dtype == "float32"
    offset = b.table(
        name, KeepNumDims=True, FusedActivationFunction=_activation(node),
        AsymmetricQuantizeInputs=hybrid,
    )  # fmt: skip
    return Lowered("FULLY_CONNECTED", name, offset, [], 10, 10)


def _activation(node: Node) -> int:
    relu = node.attributes.get("activation") == "relu"
    return int(schema.ActivationFunctionType.RELU) if relu else 0


@lowering("add")
def _add(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    activation = _activation(node)
    if not activation:
        return Lowered("ADD")
    return Lowered("ADD", "AddOptions", b.table("AddOptions", FusedActivationFunction=activation))


@lowering("sub")
def _sub(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("SUB")


@lowering("mul")
def _mul(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("MUL")


@lowering("maximum")
def _maximum(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("MAXIMUM")


@lowering("concat")
def _concat(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("CONCATENATION", "ConcatenationOptions", b.table("ConcatenationOptions", Axis=3))


@lowering("slice")
def _slice(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    begin = np.array([0, 0, 0, node.attributes["begin"]], np.int32)
    size = np.array(graph.values[node.output].shape, np.int32)
    return Lowered("SLICE", "SliceOptions", b.table("SliceOptions"), [begin, size])


@lowering("mean")
def _mean(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    axes = np.array(node.attributes["axes"], np.int32)
    return Lowered("MEAN", "ReducerOptions", b.table("ReducerOptions", KeepDims=True), [axes])


@lowering("reshape")
def _reshape(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    shape = np.array(graph.values[node.output].shape, np.int32)
    return Lowered("RESHAPE", "", 0, [shape], 1, 1)


@lowering("resize")
def _resize(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    size = np.array([node.attributes["height"], node.attributes["width"]], np.int32)
    offset = b.table("ResizeBilinearOptions", AlignCorners=True)
    return Lowered("RESIZE_BILINEAR", "ResizeBilinearOptions", offset, [size])


@lowering("max_pool")
def _max_pool(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    offset = b.table(
        "Pool2DOptions", Padding=_VALID, StrideW=2, StrideH=2, FilterWidth=2, FilterHeight=2
    )
    return Lowered("MAX_POOL_2D", "Pool2DOptions", offset)


@lowering("gelu")
def _gelu(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("GELU")


@lowering("relu")
def _relu(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("RELU")


@lowering("rsqrt")
def _rsqrt(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("RSQRT")


@lowering("sigmoid")
def _sigmoid(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("LOGISTIC")


@lowering("quantize")
def _quantize(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    return Lowered("QUANTIZE")


@lowering("dequantize")
def _dequantize(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    # Without int8 it takes float16, which came later.
    return Lowered("DEQUANTIZE", float_version=3)
