"""One function per operator: a graph node -> ONNX nodes, channels first.

A lowering gets the builder and the node, appends what computes the node's output and
returns its ONNX name. Choices were measured on the whole network: ONNX Runtime 1.32, one
thread, x86-64, ratios of the fastest of 500 alternating runs, first with the plain
kernels, which phones have too (graph optimizations "extended"), then with the NCHWc
kernels, which only x86-64 has ("all").

- Norms over channels by 1x1 convolutions to one channel: see ``_layer_norm``.
- ``Gelu``, an operator since opset 20, against the five nodes of its definition by
  ``Erf``, which ONNX Runtime fuses: those take 1.03 / 1.04, 92 nodes and 2 KB more.
- ``Split`` against four ``Slice``: those take 1.00 / 1.02, 48 nodes and 1.5 KB more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from egeunet.export.graph import Node
from egeunet.export.onnx.builder import Array, OnnxBuilder

Lowering = Callable[[OnnxBuilder, Node], str]
LOWERINGS: dict[str, Lowering] = {}

BILINEAR = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
_NCHW_AXIS = {0: 0, 1: 2, 2: 3, 3: 1}  # axis of (N, H, W, C) -> axis of (N, C, H, W)


def lowering(op: str) -> Callable[[Lowering], Lowering]:
    """Register the lowering of a graph operator."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS[op] = function
        return function

    return register


@lowering("conv2d")
def _conv2d(b: OnnxBuilder, node: Node) -> str:
    return _convolve(b, node, b.data(node.inputs[1]).transpose(0, 3, 1, 2))  # OHWI -> OIHW


@lowering("depthwise_conv2d")
def _depthwise_conv2d(b: OnnxBuilder, node: Node) -> str:
    kernel = b.data(node.inputs[1]).transpose(3, 0, 1, 2)  # 1HWC -> C1HW
    return _convolve(b, node, kernel, group=len(kernel))


def _convolve(b: OnnxBuilder, node: Node, kernel: Array, **attributes: Any) -> str:
    dilation = node.attributes["dilation"]
    pads = [dilation * (side // 2) for side in kernel.shape[2:]]  # odd sides: SAME is symmetric
    if any(pads):
        attributes["pads"] = pads * 2
    if dilation != 1:
        attributes["dilations"] = [dilation, dilation]
    inputs = [b.operand(node.inputs[0]), b.weight(kernel)]
    bias = b.data(node.inputs[2])
    if bias.any():  # it is a pass of its own over the result
        inputs.append(b.weight(bias))
    return b.add("Conv", inputs, **attributes)


@lowering("layer_norm")
def _layer_norm(b: OnnxBuilder, node: Node) -> str:
    # Mean and mean square over the channels are 1x1 convolutions to one channel, the
    # second with epsilon as its bias. Time (plain / NCHWc kernels), nodes and bytes of the
    # network, against these seven nodes a norm (472 in all):
    #   Transpose, LayerNormalization, Transpose       1.37 / 1.07  324 nodes    -5 KB
    #   ReduceMean for both means                      1.35 / 1.11  509 nodes    -1 KB
    #   ReduceMean for the first mean                  1.18 / 1.05  472 nodes
    #   centring by one C x C convolution              1.03 / 1.07  435 nodes  +112 KB
    #   MEAN, RSQRT and MUL, translated one to one     1.22 / 1.08  616 nodes   +20 KB
    x, (gamma, beta) = b.operand(node.inputs[0]), (b.data(name) for name in node.inputs[1:])
    average = b.constant(np.full((1, len(gamma), 1, 1), 1 / len(gamma), np.float32))
    eps = b.constant(np.array([node.attributes["eps"]], np.float32))
    centred = b.add("Sub", [x, b.add("Conv", [x, average])])
    variance = b.add("Conv", [b.add("Mul", [centred, centred]), average, eps])
    return _affine(b, b.add("Div", [centred, b.add("Sqrt", [variance])]), gamma, beta)


@lowering("group_norm")
def _group_norm(b: OnnxBuilder, node: Node) -> str:
    # GroupNormalization needs opset 21, and ONNX Runtime expands each into 25 nodes more.
    gamma, beta = (b.data(name) for name in node.inputs[1:])
    _, height, width, channels = b.graph.values[node.output].shape
    x, groups = b.operand(node.inputs[0]), node.attributes["groups"]
    one, zero = (b.constant(np.full(groups, value, np.float32)) for value in (1, 0))
    # 0 keeps the batch's length; -1 is height x width x channels of a group
    flat = b.add("Reshape", [x, b.constant(np.array([0, groups, -1]))])
    normed = b.add("InstanceNormalization", [flat, one, zero], epsilon=node.attributes["eps"])
    known = np.array([0, channels, height, width])
    shape = b.add("Shape", [x]) if b.dynamic else b.constant(known)
    return _affine(b, b.add("Reshape", [normed, shape]), gamma, beta)


@lowering("affine")
def _runtime_affine(b: OnnxBuilder, node: Node) -> str:
    x, *vectors = (b.operand(name) for name in node.inputs)
    flat = b.constant(np.array([-1]))
    gamma, beta = (b.add("Reshape", [vector, flat]) for vector in vectors)
    return _normalization(b, x, gamma, beta, b.graph.values[node.output].shape[3])


def _affine(b: OnnxBuilder, x: str, gamma: Array, beta: Array) -> str:
    return _normalization(b, x, b.weight(gamma), b.weight(beta), len(gamma))


def _normalization(b: OnnxBuilder, x: str, gamma: str, beta: str, channels: int) -> str:
    """gamma * x + beta per channel: a batch normalization of mean 0 and variance 1.

    Mul and Add would be two passes over the map.
    """
    mean, variance = (b.weight(np.full(channels, value, np.float32)) for value in (0, 1))
    return b.add("BatchNormalization", [x, gamma, beta, mean, variance], epsilon=0.0)


@lowering("concat")
def _concat(b: OnnxBuilder, node: Node) -> str:
    return b.add("Concat", [b.operand(name) for name in node.inputs], axis=1)


@lowering("slice")
def _slice(b: OnnxBuilder, node: Node) -> str:
    begin, count = node.attributes["begin"], node.attributes["count"]
    ends = [b.constant(np.array([end])) for end in (begin, begin + count, 1)]
    return b.add("Slice", [b.operand(node.inputs[0]), *ends])  # start, end, axis


def split(b: OnnxBuilder, nodes: list[Node]) -> list[str]:
    """One ``Split`` for slices that together cover their input, in channel order."""
    counts = [node.attributes["count"] for node in nodes]
    x = b.operand(nodes[0].inputs[0])
    if len(set(counts)) == 1:
        return b.add_many("Split", [x], len(counts), axis=1, num_outputs=len(counts))
    return b.add_many("Split", [x, b.constant(np.array(counts))], len(counts), axis=1)


@lowering("reshape")
def _reshape(b: OnnxBuilder, node: Node) -> str:
    last = b.add("Transpose", [b.operand(node.inputs[0])], perm=[0, 2, 3, 1])
    shape = np.array([0, *node.attributes["to"][1:]])  # 0 keeps the batch's length
    moved = b.add("Reshape", [last, b.constant(shape)])
    return b.add("Transpose", [moved], perm=[0, 3, 1, 2])


@lowering("mean")
def _mean(b: OnnxBuilder, node: Node) -> str:
    axes = sorted(_NCHW_AXIS[axis] for axis in node.attributes["axes"])
    return b.add("ReduceMean", [b.operand(node.inputs[0]), b.constant(np.array(axes))])


@lowering("resize")
def _resize(b: OnnxBuilder, node: Node) -> str:
    n, height, width, channels = b.graph.values[node.output].shape
    old_height, old_width = b.graph.values[node.inputs[0]].shape[1:3]
    if b.dynamic:
        if height % old_height or width % old_width:
            raise NotImplementedError(f"resize of {old_height} x {old_width} by a fraction")
        factors = [1, 1, height // old_height, width // old_width]
        return _resized(b, node, scales=b.constant(np.array(factors, np.float32)))
    # By sizes, not scales: ONNX rounds height x scale down, and 3 x (7 / 3) is below 7.
    source = b.operand(node.inputs[0])
    if n > 1 or b.graph.values[node.inputs[0]].data is not None:
        return _resized(b, node, sizes=b.constant(np.array([n, channels, height, width])))
    if channels == 1:  # each axis with the other one as channels
        columns = _between(b, source, old_height, (1, old_width, 1, old_height))
        columns = _channels_last(b, columns, (1, width, 1, old_height))
        rows = _between(b, columns, width, (1, old_height, 1, width))
        rows = _channels_last(b, rows, (1, height, 1, width))
        return b.add("Reshape", [rows, b.constant(np.array([1, 1, height, width]))])
    # ONNX Runtime's bilinear kernel for channels last works on pixels, not on numbers: half
    # the instructions on ARM64 at 8 channels, two fifths at 24, both transpositions included.
    # These are of matrices, as of maps its optimizer takes the pair out again.
    last = _between(b, source, channels, (1, old_height, old_width, channels))
    last = _channels_last(b, last, (1, height, width, channels))
    return _between(b, last, height * width, (1, channels, height, width))


def _channels_last(b: OnnxBuilder, x: str, sizes: tuple[int, ...]) -> str:
    return b.add("Resize", [x, "", "", b.constant(np.array(sizes))], **BILINEAR)


def _between(b: OnnxBuilder, x: str, rows: int, shape: tuple[int, ...]) -> str:
    """Channels first to last or back: ``x`` as a matrix of so many rows, transposed."""
    matrix = b.add("Reshape", [x, b.constant(np.array([rows, -1]))])
    transposed = b.add("Transpose", [matrix], perm=[1, 0])
    return b.add("Reshape", [transposed, b.constant(np.array(shape))])


@lowering("resize_like")
def _resize_like(b: OnnxBuilder, node: Node) -> str:
    """A constant grid to the height, the width or both of the second input when it is run."""
    like = b.operand(node.inputs[1])
    channels = b.graph.values[node.output].shape[3]
    rows, columns = node.attributes["rows"], node.attributes["columns"]
    start, end = 2 if rows else 3, 4 if columns else 3
    sides = b.add("Shape", [like], start=start, end=end)
    before = b.constant(np.array([1, channels] if rows else [1, channels, 1]))
    after = [] if columns else [b.constant(np.array([1]))]
    return _resized(b, node, sizes=b.add("Concat", [before, sides, *after], axis=0))


def _resized(b: OnnxBuilder, node: Node, *, scales: str = "", sizes: str = "") -> str:
    inputs = [b.operand(node.inputs[0]), "", scales, *([sizes] if sizes else [])]
    return b.add("Resize", inputs, **BILINEAR)


@lowering("max_pool")
def _max_pool(b: OnnxBuilder, node: Node) -> str:
    return b.add("MaxPool", [b.operand(node.inputs[0])], kernel_shape=[2, 2], strides=[2, 2])


@lowering("rsqrt")
def _rsqrt(b: OnnxBuilder, node: Node) -> str:
    return b.add("Reciprocal", [b.add("Sqrt", [b.operand(node.inputs[0])])])


def _elementwise(operator: str) -> Lowering:
    def lower(b: OnnxBuilder, node: Node) -> str:
        return b.add(operator, [b.operand(name) for name in node.inputs])

    return lower


for _op, _operator in {
    "add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "gelu": "Gelu",
    "sigmoid": "Sigmoid", "relu": "Relu",
}.items():  # fmt: skip
    lowering(_op)(_elementwise(_operator))
