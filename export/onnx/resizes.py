"""Resizes that go together: one of many channels costs less than several of few.

ONNX Runtime's bilinear kernel spends most of its instructions on the pixel, not on the
channels. A decoder map and the deep map of the bridge beside it are enlarged alike.
"""

from __future__ import annotations

from egeunet.export.graph import Graph, GraphBuilder, Node, Value

Values = dict[str, Value]


def joined_resizes(graph: Graph) -> Graph:
    """The same function, with resizes that are alike as one of all their channels.

    Two resizes are alike if their inputs have the same height and width, their outputs too,
    both have more than one channel, and the second does not depend on the first.
    """
    nodes = list(graph.nodes)
    values = dict(graph.values)
    for second in graph.nodes:
        first = _partner(values, nodes, second)
        if first is None:
            continue
        # Everything that the second needs comes before the first, in the same order.
        needed = _ancestors(nodes, second)
        place = nodes.index(first)
        early = [node for node in nodes[place:] if node.output in needed]
        late = [n for n in nodes[place:] if n.output not in needed and n not in (first, second)]
        b = GraphBuilder(values[graph.input].shape)
        b.values, b.scope = values, first.scope
        joined = b.concat([first.inputs[0], second.inputs[0]])
        height, width = values[first.output].shape[1:3]
        large = b.resize(joined, height, width)
        start, parts = 0, []
        for node in (first, second):
            count = values[node.output].shape[3]
            attributes = {"begin": start, "count": count}
            parts.append(Node("slice", (large,), node.output, attributes, node.scope))
            start += count
        nodes = [*nodes[:place], *early, *b.nodes, *parts, *late]
    return Graph(graph.input, graph.output, nodes, values)


def _partner(values: Values, nodes: list[Node], second: Node) -> Node | None:
    if not _counts(values, second):
        return None
    needed = _ancestors(nodes, second)
    for first in nodes[: nodes.index(second)]:
        if _counts(values, first) and _sides(values, first) == _sides(values, second):
            return None if first.output in needed else first
    return None


def _counts(values: Values, node: Node) -> bool:
    if node.op != "resize":
        return False
    source = values[node.inputs[0]]
    return source.data is None and source.shape[3] > 1


def _sides(values: Values, node: Node) -> tuple[tuple[int, ...], ...]:
    return tuple(values[name].shape[:3] for name in (node.inputs[0], node.output))


def _ancestors(nodes: list[Node], last: Node) -> set[str]:
    """Names of all values that ``last`` needs."""
    needed: set[str] = set(last.inputs)
    for node in reversed(nodes[: nodes.index(last)]):
        if node.output in needed:
            needed.update(node.inputs)
    return needed
