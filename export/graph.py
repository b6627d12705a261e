"""The deploy form: a small static graph in NHWC, from which every format is written.

A :class:`Graph` is a list of nodes in execution order over named values. A value is
an activation or a constant; integer values carry their quantization. Emitters
translate nodes one by one; passes (quantization, float16) make a new graph.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantization:
    """real = scale * (quantized - zero_point), per tensor or along one axis.

    Attributes:
        scale: (1,) or (channels,) float32.
        zero_point: int64, same length.
        axis: the channel axis of a per-channel constant; 0 per tensor.
    """

    scale: Array
    zero_point: Array
    axis: int = 0

    def __post_init__(self) -> None:
        if self.scale.shape != self.zero_point.shape or self.scale.ndim != 1:
            raise ValueError(f"scale {self.scale.shape} and zero point {self.zero_point.shape}")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError(f"scales must be finite and positive, got {self.scale}")

    def repeated(self, times: int) -> Quantization:
        """With so many copies of its channels one behind the other; itself per tensor."""
        if len(self.scale) == 1:
            return self
        return replace(
            self, scale=np.tile(self.scale, times), zero_point=np.tile(self.zero_point, times)
        )

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int) -> Quantization:
        """One scale and zero point for the whole tensor."""
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))


@dataclass(frozen=True)
class Value:
    """A tensor of the graph; ``data`` is None for activations."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: Array | None = None
    quantization: Quantization | None = None


def data_of(value: Value) -> Array:
    """Content of a constant."""
    assert value.data is not None, f"value {value.name} is no constant"
    return value.data


@dataclass(frozen=True)
class Node:
    """One operator. ``scope`` is the reference module it came from, for reports."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)
    scope: str = ""


@dataclass
class Graph:
    """Nodes in execution order, all values by name, one input and one output."""

    input: str
    output: str
    nodes: list[Node]
    values: dict[str, Value]

    def operators(self) -> dict[str, int]:
        """Number of nodes by operator, sorted by name."""
        return dict(sorted(Counter(node.op for node in self.nodes).items()))

    def structure_sha256(self) -> str:
        """A hash of operators, wiring and shapes: equal for graphs that differ in numbers only."""
        digest = hashlib.sha256()
        for node in self.nodes:
            shape = self.values[node.output].shape
            digest.update(f"{node.op} {node.inputs} {node.output} {shape}\n".encode())
        return digest.hexdigest()

    def readers(self, name: str) -> list[Node]:
        """The nodes that take a value, in order."""
        return [node for node in self.nodes if name in node.inputs]

    def pruned(self) -> Graph:
        """The same without nodes on which the output does not depend."""
        needed, kept = {self.output}, []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        return Graph(self.input, self.output, kept[::-1], self.values)

    def constants(self) -> list[Value]:
        """The constants that some node reads, in order of first use, each once."""
        names = dict.fromkeys(name for node in self.nodes for name in node.inputs)
        return [self.values[name] for name in names if self.values[name].data is not None]

    def weight_bytes(self) -> int:
        """Bytes of all constants; equal ones count once, as emitters write them."""
        contents = {value.data.tobytes() for value in self.constants() if value.data is not None}
        return sum(map(len, contents))


class GraphBuilder:
    """Appends nodes and infers shapes. Every method returns the output's name.

    Operators (activations are (1, H, W, C); all convolutions have stride 1, SAME zero
    padding and a bias or none): conv2d, depthwise_conv2d, add, sub, mul, maximum, concat,
    slice, mean, rsqrt, gelu, relu, sigmoid, max_pool, reshape, resize, layer_norm, group_norm,
    quantize, dequantize.
    """

    def __init__(self, input_shape: Sequence[int], name: str = "image") -> None:
        self.values = {name: Value(name, tuple(input_shape))}
        self.nodes: list[Node] = []
        self.input = name
        self.scope = ""

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """What is appended inside comes from ``part`` of the present scope."""
        outer, self.scope = self.scope, f"{self.scope}/{part}"
        yield
        self.scope = outer

    def finish(self, output: str) -> Graph:
        """The graph that ends in ``output``."""
        return Graph(self.input, output, self.nodes, self.values)

    def constant(self, data: Array, like: Value | None = None) -> str:
        """Add a constant; dtype and quantization are ``like``'s if given."""
        value = Value(f"c{len(self.values)}", data.shape, str(data.dtype), data)
        if like is not None:
            value = replace(value, dtype=like.dtype, quantization=like.quantization)
        self.values[value.name] = value
        return value.name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.values[name].shape

    def add_node(
        self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any
    ) -> str:
        """Append one node whose float32 output has ``shape``; see :meth:`typed`."""
        output = f"v{len(self.values)}"
        self.values[output] = Value(output, tuple(shape))
        self.nodes.append(Node(op, tuple(inputs), output, attributes, self.scope))
        return output

    def typed(self, name: str, dtype: str, quantization: Quantization | None = None) -> str:
        """Give a value another type; returns its name."""
        self.values[name] = replace(self.values[name], dtype=dtype, quantization=quantization)
        return name

    def conv2d(self, x: str, weight: Array, bias: Array) -> str:
        """weight (O, kh, kw, I), bias (O,)."""
        inputs = (x, self.constant(weight), self.constant(bias))
        return self.add_node("conv2d", inputs, (*self.shape(x)[:3], len(weight)), dilation=1)

    def depthwise_conv2d(self, x: str, weight: Array, bias: Array, dilation: int = 1) -> str:
        """weight (1, kh, kw, C), bias (C,)."""
        inputs = (x, self.constant(weight), self.constant(bias))
        return self.add_node("depthwise_conv2d", inputs, self.shape(x), dilation=dilation)

    def _broadcast(self, op: str, a: str, b: str) -> str:
        return self.add_node(op, (a, b), np.broadcast_shapes(self.shape(a), self.shape(b)))

    def add(self, a: str, b: str) -> str:
        """a + b, broadcast."""
        return self._broadcast("add", a, b)

    def sub(self, a: str, b: str) -> str:
        """a - b, broadcast."""
        return self._broadcast("sub", a, b)

    def mul(self, a: str, b: str) -> str:
        """a * b, broadcast."""
        return self._broadcast("mul", a, b)

    def maximum(self, a: str, b: str) -> str:
        """The greater of both, broadcast."""
        return self._broadcast("maximum", a, b)

    def concat(self, parts: Sequence[str]) -> str:
        """Join along channels."""
        channels = sum(self.shape(part)[3] for part in parts)
        return self.add_node("concat", parts, (*self.shape(parts[0])[:3], channels))

    def slice(self, x: str, begin: int, count: int) -> str:
        """Channels begin .. begin + count."""
        return self.add_node("slice", (x,), (*self.shape(x)[:3], count), begin=begin, count=count)

    def split(self, x: str, parts: int) -> list[str]:
        """All channels in ``parts`` equal runs: slices, which emitters may write as one split."""
        count = self.shape(x)[3] // parts
        return [self.slice(x, index * count, count) for index in range(parts)]

    def mean(self, x: str, axes: Sequence[int]) -> str:
        """Mean over axes, which stay with length 1."""
        shape = [1 if axis in axes else side for axis, side in enumerate(self.shape(x))]
        return self.add_node("mean", (x,), shape, axes=tuple(axes))

    def elementwise(self, op: str, x: str) -> str:
        """gelu (exact, by erf), relu, sigmoid or rsqrt."""
        return self.add_node(op, (x,), self.shape(x))

    def max_pool(self, x: str) -> str:
        """2 x 2, stride 2."""
        n, height, width, channels = self.shape(x)
        return self.add_node("max_pool", (x,), (n, height // 2, width // 2, channels))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """The same values in the same order, of a batch of one."""
        return self.add_node("reshape", (x,), shape, to=tuple(shape))

    def resize(self, x: str, height: int, width: int) -> str:
        """Bilinear, corners aligned; nothing where the size is that already."""
        n, old_height, old_width, channels = self.shape(x)
        if (old_height, old_width) == (height, width):
            return x
        shape = (n, height, width, channels)
        return self.add_node("resize", (x,), shape, height=height, width=width)

    def layer_norm(self, x: str, gamma: Array, beta: Array, eps: float) -> str:
        """Over the channels of each pixel."""
        inputs = (x, self.constant(gamma), self.constant(beta))
        return self.add_node("layer_norm", inputs, self.shape(x), eps=eps)

    def group_norm(self, x: str, gamma: Array, beta: Array, groups: int, eps: float) -> str:
        """Over all pixels of each of ``groups`` runs of channels."""
        inputs = (x, self.constant(gamma), self.constant(beta))
        return self.add_node("group_norm", inputs, self.shape(x), groups=groups, eps=eps)
