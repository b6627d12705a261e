"""Which values of a graph share one int8 scale, and which nodes have none: in the file, and
in what trains for it."""

from __future__ import annotations

from collections.abc import Callable

from egeunet.export.graph import Graph, Node

#: Operators that only move or pick values: their output has their inputs' scale.
SAME_SCALE = ("slice", "max_pool", "reshape", "resize", "concat", "maximum", "relu")


def scale_roots(graph: Graph) -> Callable[[str], str]:
    """A function from a value's name to that of the value which stands for all tied to it.

    Values are tied by the operators of :data:`SAME_SCALE`, from inputs to output and on.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        for name in tied_inputs(node):
            parent[root(name)] = root(node.output)
    return root


def tied_inputs(node: Node) -> tuple[str, ...]:
    """The inputs that have the scale of the node's output."""
    tied = node.op in SAME_SCALE and not in_group_norm(node)  # where there are none
    return tuple(node.inputs) if tied else ()


def stays_float(node: Node) -> bool:
    """Whether a node computes in float32 in an integer file: dynamic GroupNorms and RSQRT
    (docs/decisions.md, 5), and MAXIMUM and GELU, of which XNNPACK has no integer kernel. (A
    DEQUANTIZE, one operator of one input and a QUANTIZE it makes a table of 256 bytes.)"""
    return node.op in ("rsqrt", "gelu", "maximum") or in_group_norm(node)


def in_group_norm(node: Node) -> bool:
    """Whether a node is of a dynamic GroupNorm, whole or in parts."""
    return node.op == "group_norm" or node.scope.endswith("/group_norm")


def in_layer_norm(node: Node) -> bool:
    """Whether a node is of a dynamic LayerNorm, whole or in parts."""
    return node.op == "layer_norm" or node.scope.endswith("/layer_norm")


def float_outputs(graph: Graph) -> list[str]:
    """Outputs of the nodes for which :func:`stays_float` holds, in order."""
    return [node.output for node in graph.nodes if stays_float(node)]
