"""Depthwise convolutions of 9 or 13 channels as ones of 16: ONNX Runtime has fast integer
kernels for multiples of 16 (8 on ARM64) and counts the rest one by one.

A bridge concatenates runs of two maps and, last, the one logit of the mask. The 1x1
convolution that makes this logit gives zeros behind it, for nothing, as it works in eights
anyway; they go through the depthwise convolutions as zeros, and the 1x1 convolution behind
their concatenation has zeros for them. Same numbers, bit-identical.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from egeunet.export.graph import Array, Graph, GraphBuilder, Node, Quantization, Value, data_of

_LANES = 16
#: On smaller maps the concatenations that get wider cost what the kernels save.
_LEAST_PIXELS = 32 * 32


def filled_lanes(graph: Graph) -> Graph:
    """The same function with filled channels where the pattern above is found.

    Args:
        graph: quantized, as int8.py makes it.
    """
    for node in graph.nodes:
        bridge = _bridge(graph, node)
        if bridge is not None:
            graph = _filled(graph, node, *bridge)
    return graph


def _bridge(graph: Graph, logit: Node) -> tuple[list[Node], list[Node], Node, Node] | None:
    """The concatenations that end in a logit, the depthwise convolutions behind them, what
    gathers these, and the 1x1 convolution behind that; None where any of it is otherwise."""
    value = graph.values[logit.output]
    if logit.op != "conv2d" or value.dtype != "int8":
        return None
    _, height, width, _ = value.shape
    if height * width < _LEAST_PIXELS:
        return None
    joined = graph.readers(logit.output)
    if not joined or any(n.op != "concat" or n.inputs.index(logit.output) != len(n.inputs) - 1
                         for n in joined):  # fmt: skip
        return None
    depthwise = [_only_reader(graph, node, "depthwise_conv2d") for node in joined]
    if any(node is None for node in depthwise):
        return None
    found = [node for node in depthwise if node is not None]
    gathered = {reader.output: reader for node in found for reader in graph.readers(node.output)}
    gather = next(iter(gathered.values())) if len(gathered) == 1 else None
    if gather is None or gather.op != "concat":
        return None
    tail = _only_reader(graph, gather, "conv2d")
    if tail is None or graph.values[tail.inputs[1]].shape[1:3] != (1, 1):
        return None
    alike = len({graph.values[node.output].shape[3] for node in joined}) == 1
    return (joined, found, gather, tail) if alike else None


def _filled(
    graph: Graph, logit: Node, joined: list[Node], depthwise: list[Node], gather: Node, tail: Node
) -> Graph:
    count = -graph.values[joined[0].output].shape[3] % _LANES
    if not count:
        return graph
    b = GraphBuilder(graph.values[graph.input].shape, graph.input)
    b.values = dict(graph.values)
    changed = {logit.output: _with_zeros(b, logit, 0, count)}
    for node in depthwise:
        changed[node.output] = _with_zeros(b, node, 3, count)
    # In the kernel behind, zeros stand where each part's new channels come.
    parts = [(graph.values[name].shape[3], name in changed) for name in gather.inputs]
    kernel = b.values[tail.inputs[1]]
    data, pieces, start = data_of(kernel), [], 0
    for channels, wider in parts:
        fill = ((0, 0), (0, 0), (0, 0), (0, count if wider else 0))
        pieces.append(np.pad(data[..., start : start + channels], fill))
        start += channels
    changed[tail.output] = replace(
        tail, inputs=(tail.inputs[0], _like(b, kernel, np.concatenate(pieces, 3)), tail.inputs[2])
    )
    for node in (logit, *joined, *depthwise):
        _widen(b, node.output, count)
    _widen(b, gather.output, count * sum(wider for _, wider in parts))
    nodes = [changed.get(node.output, node) for node in graph.nodes]
    return Graph(graph.input, graph.output, nodes, b.values)


def _with_zeros(b: GraphBuilder, node: Node, axis: int, count: int) -> Node:
    """A convolution with so many more outputs, all zero; ``axis`` of the kernel is theirs."""
    x, kernel, bias = node.inputs
    wide = []
    for value, along in ((b.values[kernel], axis), (b.values[bias], 0)):
        data = data_of(value)
        pads = [(0, count if each == along else 0) for each in range(data.ndim)]
        wide.append(_like(b, value, np.pad(data, pads), count))
    return replace(node, inputs=(x, *wide))


def _like(b: GraphBuilder, value: Value, data: Array, count: int = 0) -> str:
    """A constant with the scales of another, and so many more of the last one's."""
    old = value.quantization
    assert old is not None
    if len(old.scale) > 1:
        scale = np.pad(old.scale, (0, count), "edge")
        old = Quantization(scale, np.pad(old.zero_point, (0, count), "edge"), old.axis)
    return b.typed(b.constant(data), str(data.dtype), old)


def _widen(b: GraphBuilder, name: str, count: int) -> None:
    value = b.values[name]
    b.values[name] = replace(value, shape=(*value.shape[:3], value.shape[3] + count))


def _only_reader(graph: Graph, node: Node, op: str) -> Node | None:
    readers = graph.readers(node.output)
    return readers[0] if len(readers) == 1 and readers[0].op == op else None
