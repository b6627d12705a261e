"""Int8 graphs arranged for the kernels of phones: the same numbers, fewer instructions.

- a 3x3 convolution of few channels fills half the lanes of a dot product: neighbouring pixels
  of a row are taken as channels, (H, W, C) -> (H, W/2, 2C), which in memory is nothing. Same
  products, same sums, bit-identical
- a resize of one channel works pixel by pixel: rows and columns are resized one after the
  other, each with the other axis as channels. Rounds once more
- a vector that is repeated along a short row is broadcast where it is read
- a ReLU behind a convolution or sum, or behind a max-pool of one, is done by it
- convolutions with a dilation get an operator name of their own, which older emitters
  refuse rather than ignore
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egeunet.export.graph import Graph, GraphBuilder, Node, data_of
from egeunet.export.group_kernel import group_kernel, repeated_constant
from egeunet.export.tflite.flatbuffer import SharingBuilder
from egeunet.export.tflite.operators import LOWERINGS, Lowered, lowering
from egeunet.quantize.clipping import TRANSPARENT, only_clipped

#: Output channels in which the kernels of dot products work.
_LANES = 16
#: Of a smaller map the seven operators more are not worth their bytes.
_PIXELS_BY_AXES = 192 * 192
#: A vector is repeated along rows of so many pixels.
_SHORTEST_ROW = 64
#: Operators that can clip their result at zero for nothing.
CLIPPING = ("conv2d", "depthwise_conv2d", "fully_connected", "add")


def pack(graph: Graph, optimize: str = "speed") -> Graph:
    """The same function in a cheaper arrangement; see the module docstring.

    Args:
        graph: quantized, as int8.py makes it.
        optimize: ``speed``, or ``size``: nothing that adds operators.
    """
    return _Packer(graph, optimize == "speed").run()


class _Packer:
    def __init__(self, graph: Graph, fast: bool) -> None:
        self.graph, self.fast = graph, fast
        start = graph.values[graph.input]
        self.b = GraphBuilder(start.shape, start.name)
        self.b.typed(start.name, start.dtype, start.quantization)
        self.names = {start.name: start.name}
        self.clipped = _clipped(graph)

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.b.scope = node.scope
            if node.op == "relu" and node.inputs[0] in self.clipped:
                self.names[node.output] = self.name(node.inputs[0])
            else:
                self.names[node.output] = self.node(node)
        return self.b.finish(self.names[self.graph.output])

    def node(self, node: Node) -> str:
        if node.op == "conv2d" and node.attributes["dilation"] > 1:
            return self.copy(node, "dilated_conv2d")
        if self.fast and node.op == "conv2d" and self.wasteful(node):
            return self.paired(node)
        if node.op == "resize":
            return self.resized(node)
        return self.copy(node, node.op)

    def resized(self, node: Node) -> str:
        """A resize, in whichever way is the shortest."""
        source, target = self.graph.values[node.inputs[0]], self.graph.values[node.output]
        if source.data is not None and self.short_row(node):
            return self.name(node.inputs[0])
        enlarged = target.shape[1] > source.shape[1] and target.shape[2] > source.shape[2]
        pixels, channels = target.shape[1] * target.shape[2], target.shape[3]
        alone = channels == 1 and source.data is None and pixels >= _PIXELS_BY_AXES
        return self.by_axes(node) if self.fast and alone and enlarged else self.copy(node, node.op)

    def short_row(self, node: Node) -> bool:
        """Whether a vector is repeated along a row that is so short that it may as well be
        broadcast where it is read: the same numbers, an operator less."""
        before, after = (self.graph.values[name].shape for name in (node.inputs[0], node.output))
        return before[1:3] == (1, 1) and after[1] == 1 and after[2] < _SHORTEST_ROW

    def wasteful(self, node: Node) -> bool:
        kernel = self.graph.values[node.inputs[1]]
        outputs, height, width, _ = kernel.shape
        even = self.graph.values[node.output].shape[2] % 2 == 0
        return (height, width) == (3, 3) and 2 * outputs <= _LANES and even and kernel.shape[3] < 4

    def copy(self, node: Node, op: str) -> str:
        inputs = [self.name(name) for name in node.inputs]
        return self.add(op, inputs, node.output, self.attributes(node))

    def attributes(self, node: Node) -> dict[str, object]:
        """The node's, and the ReLU that it takes over."""
        fused = node.op in CLIPPING and node.output in self.clipped
        return {**node.attributes, "activation": "relu"} if fused else node.attributes

    def add(self, op: str, inputs: Sequence[str], like: str, attributes: dict[str, object]) -> str:
        value = self.graph.values[like]
        name = self.b.add_node(op, inputs, value.shape, **attributes)
        return self.b.typed(name, value.dtype, value.quantization)

    def name(self, old: str) -> str:
        value = self.graph.values[old]
        if value.data is not None and old not in self.names:
            self.names[old] = self.b.constant(value.data, like=value)
        return self.names[old]

    def move(self, op: str, x: str, shape: Sequence[int], **attributes: object) -> str:
        """An operator that moves values only, or resizes them on their scale."""
        value = self.b.values[x]
        name = self.b.add_node(op, (x,), shape, **attributes)
        return self.b.typed(name, value.dtype, value.quantization)

    def paired(self, node: Node) -> str:
        """A 3x3 convolution of pairs of pixels."""
        b, graph = self.b, self.graph
        x, (kernel, bias) = self.name(node.inputs[0]), (graph.values[n] for n in node.inputs[1:])
        n, height, width, channels = b.shape(x)
        packed = self.move("reshape", x, (n, height, width // 2, 2 * channels))
        inputs = (
            packed,
            repeated_constant(b, group_kernel(data_of(kernel), 2, 1), kernel, 2),
            repeated_constant(b, np.tile(data_of(bias), 2), bias, 2),
        )
        target = graph.values[node.output]
        shape = (n, height, width // 2, 2 * target.shape[3])
        result = b.add_node("conv2d", inputs, shape, **self.attributes(node))
        b.typed(result, target.dtype, target.quantization)
        return self.move("reshape", result, target.shape)

    def by_axes(self, node: Node) -> str:
        """A bilinear resize of one channel, columns first."""
        x = self.name(node.inputs[0])
        n, height, width, _ = self.b.shape(x)
        _, tall, wide, _ = self.graph.values[node.output].shape
        x = self.move("transpose", x, (n, width, height, 1))
        x = self.move("reshape", x, (n, width, 1, height))
        x = self.move("resize", x, (n, wide, 1, height), height=wide, width=1)
        x = self.move("reshape", x, (n, wide, height, 1))
        x = self.move("transpose", x, (n, height, wide, 1))
        x = self.move("reshape", x, (n, height, 1, wide))
        x = self.move("resize", x, (n, tall, 1, wide), height=tall, width=1)
        return self.move("reshape", x, (n, tall, wide, 1))


def _clipped(graph: Graph) -> set[str]:
    """Names of the values that an operator of :data:`CLIPPING` made, perhaps through others,
    and of which only the positive part is taken: that operator can do so itself."""
    makers = {node.output: node for node in graph.nodes}

    def can_clip(name: str) -> bool:
        maker = makers[name]
        while maker.op in TRANSPARENT and maker.inputs[0] in makers:
            maker = makers[maker.inputs[0]]
        return maker.op in CLIPPING

    return {name for name in only_clipped(graph) if can_clip(name)}


lowering("dilated_conv2d")(LOWERINGS["conv2d"])


@lowering("transpose")
def _transpose(b: SharingBuilder, graph: Graph, node: Node) -> Lowered:
    """Rows and columns exchanged."""
    return Lowered("TRANSPOSE", "", 0, [np.array([0, 2, 1, 3], np.int32)])
