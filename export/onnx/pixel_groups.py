"""3x3 convolutions of few channels on groups of neighbouring pixels of a row.

ONNX Runtime's integer convolutions copy the surroundings of every pixel, tap by tap, and
multiply in kernels of 8 or 16 outputs whose inputs come in fours: three channels in or one out
waste most of that. In (H, W / p, p C) a pixel is p of them; channels last this is the same memory.
Same products, same sums: bit-identical. The kernels are p times as many bytes, mostly zeros.
"""

from __future__ import annotations

import numpy as np

from egeunet.export.graph import Graph, GraphBuilder, Node, data_of
from egeunet.export.group_kernel import group_kernel, repeated_constant

#: Inputs come in so many bytes, outputs in so many lanes.
_INPUTS, _OUTPUTS = 4, 8
_LARGEST_GROUP = 16


def grouped_pixels(graph: Graph) -> Graph:
    """The same function with ``reshape`` and ``pixel_group_conv2d`` where they pay.

    Args:
        graph: quantized, as int8.py makes it. A ``pixel_group_conv2d`` is a ``conv2d`` whose
            ``dilation`` is that of its rows; its columns are whole groups.
    """
    b = GraphBuilder(graph.values[graph.input].shape, graph.input)
    b.values = dict(graph.values)
    grouped: dict[tuple[str, int], str] = {}
    for node in graph.nodes:
        b.scope = node.scope
        pixels = _pixels(graph, node)
        if pixels == 1:
            b.nodes.append(node)
            continue
        source = (node.inputs[0], pixels)
        if source not in grouped:
            grouped[source] = _reshaped(b, *source)
        kernel, bias = (data_of(b.values[name]) for name in node.inputs[1:])
        wide = group_kernel(kernel, pixels, node.attributes["dilation"])
        inputs = (
            grouped[source],
            repeated_constant(b, wide, b.values[node.inputs[1]], pixels),
            repeated_constant(b, np.tile(bias, pixels), b.values[node.inputs[2]], pixels),
        )
        n, height, width, channels = b.shape(node.output)
        shape = (n, height, width // pixels, channels * pixels)
        result = b.add_node("pixel_group_conv2d", inputs, shape, **node.attributes)
        like = b.values[node.output]
        b.typed(result, like.dtype, like.quantization)
        b.nodes.append(Node("reshape", (result,), node.output, {}, node.scope))
    return Graph(graph.input, graph.output, b.nodes, b.values)


def _pixels(graph: Graph, node: Node) -> int:
    """How many pixels of a row become one; 1 where the convolution stays as it is."""
    if node.op != "conv2d" or graph.values[node.output].dtype != "int8":
        return 1
    outputs, height, width, inputs = graph.values[node.inputs[1]].shape
    if (height, width) != (3, 3) or (inputs % _INPUTS == 0 and outputs >= _OUTPUTS):
        return 1
    pixels = 1
    while pixels * inputs % _INPUTS or pixels * outputs < _OUTPUTS:
        pixels *= 2
    while pixels < node.attributes["dilation"]:  # taps lie in the groups beside
        pixels *= 2
    fits = graph.values[node.output].shape[2] % pixels == 0 and pixels <= _LARGEST_GROUP
    return pixels if fits else 1


def _reshaped(b: GraphBuilder, name: str, pixels: int) -> str:
    value = b.values[name]
    n, height, width, channels = value.shape
    result = b.add_node("reshape", (name,), (n, height, width // pixels, channels * pixels))
    return b.typed(result, value.dtype, value.quantization)
