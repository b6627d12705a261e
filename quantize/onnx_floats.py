"""Which nodes of an integer graph stay in float32 in an .onnx file."""

from __future__ import annotations

from egeunet.export.graph import Graph, Node
from egeunet.quantize.scale_ties import in_group_norm, in_layer_norm

#: What ONNX Runtime has integer kernels for (a ReLU is a Clip).
_INTEGER = (
    "conv2d", "depthwise_conv2d", "add", "sub", "mul", "relu", "sigmoid", "concat", "slice",
    "max_pool",
)  # fmt: skip


def onnx_float_outputs(graph: Graph, trained: bool = False) -> list[str]:
    """Outputs of the nodes that are computed in float32, in order.

    - What ONNX Runtime would compute so anyway: dynamic norms, GELU, and the resize of
      activations, whose integer kernel is slower than the float one and rounds down. A grid
      of constants is resized as the integers that it is stored in, as in a .tflite file.
    - What a dynamic GroupNorm reads: it enlarges the rounding of a map of little contrast to
      any size, as the scale is that of all images. On the 100 held-out training images that
      is 0.6 of 0.8 points of IoU, and IoU with the float masks is 0.990 for 0.961. Not where
      the network was ``trained`` with that very rounding.

    A graph of static norms has resizes only; docs/decisions.md 16 has the figures.
    """
    kept: set[str] = set()
    for node in reversed(graph.nodes):  # readers come first
        if _has_no_kernel(graph, node) or (
            not trained and _is_read_by_group_norm(graph, node, kept)
        ):
            kept.add(node.output)
    return [node.output for node in graph.nodes if node.output in kept]


def _has_no_kernel(graph: Graph, node: Node) -> bool:
    sources = [graph.values[name] for name in node.inputs]
    if in_group_norm(node) or in_layer_norm(node):  # sums of squares need more than eight bits
        return True
    if node.op == "resize":
        return sources[0].data is None
    if node.op == "sub":
        return sources[1].data is None
    return node.op not in _INTEGER


def _is_read_by_group_norm(graph: Graph, node: Node, kept: set[str]) -> bool:
    """Whether a convolution, or the max-pool behind it, is what a GroupNorm normalizes."""
    if node.op not in ("conv2d", "max_pool"):
        return False
    return any(
        in_group_norm(reader) or (reader.op == "max_pool" and reader.output in kept)
        for reader in graph.readers(node.output)
    )
