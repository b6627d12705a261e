"""Slices that together are one split, for formats in which a split is one operator."""

from __future__ import annotations

from egeunet.export.graph import Graph, Node


def channel_splits(graph: Graph) -> dict[str, list[Node]]:
    """Slices by the name of the value they divide, where they divide it without rest.

    Returns:
        For each value whose ``slice`` nodes, in channel order, cover every channel
        exactly once: those nodes (two or more). Other slices stay slices.
    """
    slices: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op == "slice":
            slices.setdefault(node.inputs[0], []).append(node)
    splits = {}
    for name, nodes in slices.items():
        parts = sorted(nodes, key=lambda node: int(node.attributes["begin"]))
        ends = [0]
        for part in parts:
            if part.attributes["begin"] == ends[-1]:
                ends.append(ends[-1] + part.attributes["count"])
        if len(ends) == len(parts) + 1 > 2 and ends[-1] == graph.values[name].shape[3]:
            splits[name] = parts
    return splits
