"""Which values lose what is below zero in any case: a ReLU takes only the rest of them."""

from __future__ import annotations

from egeunet.export.graph import Graph

#: Operators behind which a ReLU may as well be before them.
TRANSPARENT = ("max_pool", "quantize")


def only_clipped(graph: Graph) -> set[str]:
    """Names of the values that nodes give and whose every reader is a ReLU, or a
    :data:`TRANSPARENT` operator with such readers; none is read by nobody."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        readers = graph.readers(node.output)
        if readers and all(
            reader.op == "relu" or (reader.op in TRANSPARENT and reader.output in found)
            for reader in readers
        ):
            found.add(node.output)
    return found
