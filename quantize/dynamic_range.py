"""Dynamic-range int8: kernels in int8, arithmetic in float but for the products.

LiteRT calls an operator hybrid whose input is float and whose kernel is int8: it quantizes the
input anew for every run, by its own extremes, and no calibration is needed. XNNPACK has such
kernels for CONV_2D. Depthwise kernels stay float: theirs would run outside of it, and are few
bytes.
"""

from __future__ import annotations

from egeunet.export.graph import Graph, GraphBuilder, Node, data_of
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.export.rewrite import rewrite
from egeunet.quantize.grids import symmetric
from egeunet.quantize.scale_ties import in_group_norm, in_layer_norm

#: Scales cost four bytes a channel, and a tiny convolution takes longer by its quantization.
_SMALLEST_KERNEL = 256


def int8_dynamic(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """The float graph with the kernels of its convolutions in int8, a scale per channel."""
    return Prepared(
        quantize_kernels(graph), {"norms": "exact", "activations": "float32, int8 in convolutions"}
    )


def quantize_kernels(graph: Graph) -> Graph:
    """Large dense kernels in int8, symmetric, a scale per output channel; means of norms are
    not among them."""

    def translate(b: GraphBuilder, node: Node, inputs: list[str]) -> str:
        kernel = data_of(graph.values[node.inputs[1]])
        if kernel.size >= _SMALLEST_KERNEL and not in_group_norm(node) and not in_layer_norm(node):
            values, quantization = symmetric(kernel, 0)
            inputs = [inputs[0], b.typed(b.constant(values), "int8", quantization), *inputs[2:]]
        shape = graph.values[node.output].shape
        return b.add_node(node.op, inputs, shape, **node.attributes)

    return rewrite(graph, {"conv2d": translate})
