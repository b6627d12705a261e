"""Which values of a graph share one int8 scale, and which nodes have none: in the file, and
in what trains for it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from egeunet.export.graph import Graph, Node, data_of

#: On larger maps a hybrid convolution's own quantization takes longer than its products.
_HYBRID_PIXELS = 32 * 32
#: Operators that only move or pick values: their output has their inputs' scale.
SAME_SCALE = ("slice", "max_pool", "reshape", "resize", "concat", "maximum", "relu")


def scale_roots(graph: Graph, small: Collection[str] = ()) -> Callable[[str], str]:
    """A function from a value's name to that of the value which stands for all tied to it.

    Values are tied by the operators of :data:`SAME_SCALE`, from inputs to output and on, but
    for those of small maps in float32: ``small``, by their outputs.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        for name in tied_inputs(node, small):
            parent[root(name)] = root(node.output)
    return root


def tied_inputs(node: Node, small: Collection[str] = ()) -> tuple[str, ...]:
    """The inputs that have the scale of the node's output; ``small`` have none."""
    tied = node.op in SAME_SCALE and not in_group_norm(node) and node.output not in small
    return tuple(node.inputs) if tied else ()


def stays_float(node: Node) -> bool:
    """Whether a node computes in float32 in any integer file: dynamic GroupNorms and RSQRT
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


def small_outputs(graph: Graph, pixels: int) -> frozenset[str]:
    """Outputs of the nodes that compute in float32 where ``pixels`` is above zero.

    Those of :func:`float_outputs`, and of all that work on maps of at most so many pixels, but
    for convolutions of more than 1x1 and those of larger maps than are worth a hybrid operator
    (docs/quantization.md says what that is for).
    """
    if not pixels:
        return frozenset()
    small = _small_values(graph, pixels)
    found = {n.output for n in graph.nodes if stays_float(n) or _works_on(graph, n, small)}
    return frozenset(found - _needless(graph, found))


def _needless(graph: Graph, found: set[str]) -> set[str]:
    """Those of ``found`` that are connected, through others of them, to nothing that has to be
    float32: integers before and behind."""
    connected = {n.output for n in graph.nodes if stays_float(n) or in_layer_norm(n)}
    before = 0
    while len(connected) > before:
        before = len(connected)
        for node in graph.nodes:
            group = {node.output, *_activations(graph, node)} & found
            if node.output in found and group & connected:
                connected |= group
    return found - connected


def _works_on(graph: Graph, node: Node, values: set[str]) -> bool:
    """Whether all that a node reads and gives is among ``values``, or constant."""
    if node.op == "conv2d":
        _, rows, columns, _ = data_of(graph.values[node.inputs[1]]).shape
        _, height, width, _ = graph.values[node.output].shape
        if (rows, columns) != (1, 1) or height * width > _HYBRID_PIXELS:
            return False
    return {node.output, *_activations(graph, node)} <= values


def _small_values(graph: Graph, pixels: int) -> set[str]:
    """Activations of at most so many pixels, whatever shape norms give them for a while."""
    found: set[str] = set()
    for node in graph.nodes:
        height, width = graph.values[node.output].shape[1:3]
        read, fits = _activations(graph, node), height * width <= pixels
        small = read <= found or (fits and node.op == "mean")
        if node.op in ("resize", "max_pool") or not read:
            small = fits
        if small:
            found.add(node.output)
    return found


def _activations(graph: Graph, node: Node) -> set[str]:
    return {name for name in node.inputs if graph.values[name].data is None}
