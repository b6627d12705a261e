"""Static full-integer quantization of a primitive graph: int8 activations and weights.

The arithmetic is LiteRT's (its quantization specification): activations asymmetric per
tensor, convolution kernels symmetric per output channel, biases int32 at the product of
the scales, other constants asymmetric per tensor.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, GraphBuilder, Node, Quantization, Value
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.scale_ties import SAME_SCALE, scale_roots, tied_inputs

IO_TYPES = ("uint8", "int8", "float32")
#: One scale a channel of every kernel; of depthwise kernels only; or one a kernel.
KERNEL_SCALES = ("channel", "tensor", "all-tensor")
POINTWISE_BITS = (8, 4)
#: Of zero points of which there shall be few.
ZERO_POINT_UNIT = 16
#: A scale a channel costs 4 bytes, half the weights of a 1x1 kernel must be worth more.
_SMALLEST_FOUR_BIT = 16
#: LOGISTIC's output scale is fixed by the specification.
_PROBABILITY = Quantization.per_tensor(1 / 256, -128)
_UINT8_PROBABILITY = Quantization.per_tensor(1 / 256, 0)
#: For values that are (nearly) all zero; products of two scales stay normal float32.
_SMALLEST_SCALE = 1e-9
#: Room of a bias in its 32 bits; the rest is the sum of products'.
_BIAS_UNITS = 2**30


def quantize_int8(
    graph: Graph,
    calibration: Calibration,
    contract: ModelContract,
    io: str = "uint8",
    keep_float: Collection[str] = (),
    kernel_scales: str = "channel",
    pointwise_bits: int = 8,
    scale_steps: int = 0,
) -> Graph:
    """The graph with integer arithmetic throughout.

    Args:
        graph: of primitive operators, float32.
        calibration: ranges of this graph's values.
        contract: decides the input's scale: 1/255 or 1, so that uint8 pixels are exact.
        io: type of the file's input and output; ``float32`` adds a QUANTIZE and a
            DEQUANTIZE, ``uint8`` two QUANTIZE that only shift the zero point.
        keep_float: outputs of the nodes that are computed in float32.
        kernel_scales: one of :data:`KERNEL_SCALES`; ``all-tensor`` also gives all biases one
            scale in the file, where runtimes take it from the input's and the kernel's.
        pointwise_bits: of 1x1 kernels; those of 4 bits have a scale a channel and become
            fully connected operators, the only ones with fast kernels for them.
        scale_steps: that many scales an octave and 16 zero points, so that many values
            share theirs (bytes); scales of a channel apart. 0 = any.

    Raises:
        InputError: an unknown choice, or a calibration of another graph.
    """
    require_known("kernel_scales", kernel_scales, KERNEL_SCALES)
    require_known("pointwise_bits", pointwise_bits, POINTWISE_BITS)
    if io not in IO_TYPES:
        raise InputError(f"io must be one of {', '.join(IO_TYPES)}, got {io!r}")
    expected = {graph.input, *(node.output for node in graph.nodes)}
    lacking, foreign = expected - calibration.ranges.keys(), calibration.ranges.keys() - expected
    if lacking or foreign:
        raise InputError(
            f"calibration of another graph: it lacks {len(lacking)} of the {len(expected)} "
            f"activations and has {len(foreign)} others; calibrate again"
        )
    kernels = Kernels(graph, kernel_scales, pointwise_bits)
    kept = frozenset(keep_float)
    return _Quantizer(graph, calibration, contract, io, kept, kernels, scale_steps).run()


def require_known(name: str, value: object, known: Sequence[object]) -> None:
    """Refuse a value that is none of ``known``.

    Raises:
        InputError: it is none.
    """
    if value not in known:
        raise InputError(f"{name} must be {' or '.join(map(str, known))}, got {value!r}")


@dataclass(frozen=True)
class Kernels:
    """How the kernels of a graph are quantized.

    Attributes:
        graph: in float32.
        scales, pointwise_bits: see :func:`quantize_int8`.
    """

    graph: Graph
    scales: str = "channel"
    pointwise_bits: int = 8

    def bits(self, node: Node) -> int:
        """8, or 4 for a 1x1 kernel of enough inputs."""
        _, height, width, inputs = self.graph.values[node.inputs[1]].shape
        pointwise = node.op == "conv2d" and (height, width) == (1, 1)
        small = self.pointwise_bits == 4 and pointwise
        # Two weights are a byte: an odd number has no half of its own.
        return 4 if small and inputs >= _SMALLEST_FOUR_BIT and inputs % 2 == 0 else 8

    def axis(self, node: Node) -> int | None:
        """The axis whose channels have scales of their own; None = one scale."""
        if node.op == "depthwise_conv2d":
            return None if self.scales == "all-tensor" else 3
        return 0 if self.scales == "channel" or self.bits(node) == 4 else None

    def levels(self, node: Node) -> int:
        """The largest integer of the kernel."""
        return 2 ** (self.bits(node) - 1) - 1


def asymmetric(low: float, high: float, steps: int = 0) -> Quantization:
    """int8 over low..high, widened to hold zero exactly (padding is zero).

    With ``steps`` the scale is a power of 2 ** (1 / steps), the zero point a multiple of 16.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale, unit = max((high - low) / 255, _SMALLEST_SCALE), 1
    if steps:
        scale, unit = 2.0 ** (round(math.log2(scale) * steps) / steps), ZERO_POINT_UNIT
    zero = unit * round((-128 - low / scale) / unit)
    return Quantization.per_tensor(scale, int(np.clip(zero, -128, 127)))


def symmetric(
    weight: NDArray[np.float32],
    axis: int | None,
    least: NDArray[np.float64] | float = 0.0,
    levels: int = 127,
    steps: int = 0,
) -> tuple[NDArray[np.int8], Quantization]:
    """Kernel in -levels..levels with one scale per channel of ``axis``, at least ``least``;
    None = one scale, a power of 2 ** (1 / steps) if there are ``steps``."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peak = np.abs(weight).max(axis=others).astype(np.float64).reshape(-1)
    if axis is None:
        least = np.max(least)
    # A channel of zeros gets a small scale: XNNPACK refuses one of 256 output steps.
    scale = np.maximum(peak / levels, np.maximum(least, _SMALLEST_SCALE))
    if axis is None and steps:  # upwards, so that nothing is clipped
        scale = np.exp2(np.ceil(np.log2(scale) * steps) / steps)
    scale = scale.astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    values = np.clip(np.round(weight / scale.reshape(shape)), -levels, levels).astype(np.int8)
    return values, Quantization(scale, np.zeros(len(scale), np.int64), axis or 0)


class _Quantizer:
    def __init__(
        self,
        graph: Graph,
        calibration: Calibration,
        contract: ModelContract,
        io: str,
        keep_float: frozenset[str],
        kernels: Kernels,
        steps: int,
    ) -> None:
        self.graph, self.io, self.keep_float = graph, io, keep_float
        self.kernels, self.steps = kernels, steps
        self.scales = _activation_scales(graph, calibration, steps)
        unit = contract.normalization == "unit"
        self.pixel_scale = 1 / 255 if unit else 1.0
        self.scales[graph.input] = Quantization.per_tensor(self.pixel_scale, -128)
        for node in graph.nodes:
            if node.op == "sigmoid":
                self.scales[node.output] = _PROBABILITY
        self.b = GraphBuilder(graph.values[graph.input].shape, graph.input)
        self.names: dict[tuple[str, str], str] = {}  # (value, dtype) -> new value

    def run(self) -> Graph:
        b, graph = self.b, self.graph
        self._open()
        for node in graph.nodes:
            b.scope = node.scope
            self._node(node)
        return b.finish(self._close())

    def _open(self) -> None:
        b, quantization = self.b, self.scales[self.graph.input]
        if self.io == "uint8":
            b.typed(b.input, "uint8", Quantization.per_tensor(self.pixel_scale, 0))
            shifted = b.add_node("quantize", (b.input,), b.shape(b.input))
            self.names[b.input, "int8"] = b.typed(shifted, "int8", quantization)
        else:
            dtype = self.io
            b.typed(b.input, dtype, quantization if dtype == "int8" else None)
            self.names[b.input, dtype] = b.input

    def _close(self) -> str:
        b, output = self.b, self.graph.output
        if self.io != "uint8":
            return self._activation(output, self.io)
        name = self._activation(output, "int8")
        return b.typed(b.add_node("quantize", (name,), b.shape(name)), "uint8", _UINT8_PROBABILITY)

    def _activation(self, name: str, dtype: str) -> str:
        """The value as int8 or float32; converted where it is first needed."""
        if (name, dtype) not in self.names:
            b = self.b
            source = self.names[name, "int8" if dtype == "float32" else "float32"]
            op = "dequantize" if dtype == "float32" else "quantize"
            converted = b.add_node(op, (source,), b.shape(source))
            if dtype == "int8":
                b.typed(converted, "int8", self.scales[name])
            self.names[name, dtype] = converted
        return self.names[name, dtype]

    def _node(self, node: Node) -> None:
        dtype = "float32" if node.output in self.keep_float else "int8"
        if dtype == "float32":
            inputs = [self._float_operand(name) for name in node.inputs]
        elif node.op in ("conv2d", "depthwise_conv2d"):
            inputs = self._convolution_inputs(node)
        else:
            like = self.scales[node.output] if node.op in SAME_SCALE else None
            inputs = [self._operand(name, like) for name in node.inputs]
        shape = self.graph.values[node.output].shape
        op, attributes = node.op, node.attributes
        if dtype == "int8" and op == "conv2d" and self.kernels.bits(node) == 4:
            op, attributes = "fully_connected", {}
        output = self.b.add_node(op, inputs, shape, **attributes)
        quantization = self.scales[node.output] if dtype == "int8" else None
        self.names[node.output, dtype] = self.b.typed(output, dtype, quantization)

    def _float_operand(self, name: str) -> str:
        value = self.graph.values[name]
        if value.data is None:
            return self._activation(name, "float32")
        return self.b.constant(value.data)

    def _convolution_inputs(self, node: Node) -> list[str]:
        x, weight, *bias = node.inputs
        step = self.scales[x].scale.astype(np.float64)
        channels = self.graph.values[node.output].shape[3]
        real_bias = _data(self.graph.values[bias[0]]) if bias else np.zeros(channels, np.float32)
        # Beside a tiny kernel a bias would overflow: the channel gets a coarser scale.
        least = np.abs(real_bias) / (step * _BIAS_UNITS)
        kernels, bits = self.kernels, self.kernels.bits(node)
        kernel, quantization = symmetric(
            _data(self.graph.values[weight]),
            kernels.axis(node),
            least,
            kernels.levels(node),
            self.steps,
        )
        scale = (step * quantization.scale).astype(np.float32)
        quantized_bias = np.round(real_bias / (step * quantization.scale)).astype(np.int32)
        if kernels.scales == "all-tensor":
            scale = np.ones_like(scale)
        if bits == 4:
            kernel = kernel[:, 0, 0]  # (O, I)
        return [
            self._activation(x, "int8"),
            self._constant(kernel, quantization, f"int{bits}"),
            self._constant(quantized_bias, Quantization(scale, np.zeros(len(scale), np.int64))),
        ]

    def _operand(self, name: str, like: Quantization | None = None) -> str:
        value = self.graph.values[name]
        if value.data is None:
            return self._activation(name, "int8")
        data = _data(value)
        quantization = like or asymmetric(float(data.min()), float(data.max()), self.steps)
        units = np.round(data / quantization.scale[0]) + quantization.zero_point[0]
        return self._constant(np.clip(units, -128, 127).astype(np.int8), quantization)

    def _constant(
        self, data: NDArray[np.generic], quantization: Quantization, dtype: str = ""
    ) -> str:
        return self.b.typed(self.b.constant(data), dtype or str(data.dtype), quantization)


def _activation_scales(
    graph: Graph, calibration: Calibration, steps: int
) -> dict[str, Quantization]:
    """Scales by value; those tied by a SAME_SCALE operator share the union of ranges."""
    root = scale_roots(graph)
    ranges: dict[str, tuple[float, float]] = {}
    seen = dict(calibration.ranges)
    for node in graph.nodes:
        for name in tied_inputs(node):
            data = graph.values[name].data
            if data is not None:
                seen[name] = float(data.min()), float(data.max())
    for name, (low, high) in seen.items():
        old = ranges.get(root(name), (0.0, 0.0))
        ranges[root(name)] = (min(old[0], low), max(old[1], high))
    return {name: asymmetric(*ranges[root(name)], steps) for name in calibration.ranges}


def _data(value: Value) -> NDArray[np.float32]:
    assert value.data is not None
    return value.data
