"""A pass over a graph: each node is copied, or translated by a function for its operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from egeunet.export.graph import Graph, GraphBuilder, Node

#: Appends what replaces a node; gets the new names of its inputs, returns the output's.
Translate = Callable[[GraphBuilder, Node, list[str]], str]


def rewrite(graph: Graph, translations: Mapping[str, Translate]) -> Graph:
    """A new graph in which nodes are translated by operator name; others are copied."""
    start = graph.values[graph.input]
    builder = GraphBuilder(start.shape, start.name)
    renamed = {graph.input: graph.input}
    for node in graph.nodes:
        builder.scope = node.scope
        inputs = []
        for name in node.inputs:
            value = graph.values[name]
            if value.data is not None and name not in renamed:
                renamed[name] = builder.constant(value.data, like=value)
            inputs.append(renamed[name])
        translate = translations.get(node.op)
        if translate is None:
            shape = graph.values[node.output].shape
            renamed[node.output] = builder.add_node(node.op, inputs, shape, **node.attributes)
        else:
            renamed[node.output] = translate(builder, node, inputs)
    return builder.finish(renamed[graph.output])
