"""Static full-integer quantization of a primitive graph: int8 activations and weights.

The arithmetic is LiteRT's (its quantization specification): activations asymmetric per
tensor, convolution kernels symmetric per output channel, biases int32 at the product of
the scales, other constants asymmetric per tensor.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, GraphBuilder, Node, Quantization, Value
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.scale_ties import SAME_SCALE, scale_roots, tied_inputs

IO_TYPES = ("uint8", "int8", "float32")
KERNEL_SCALES = ("channel", "tensor")
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
) -> Graph:
    """The graph with integer arithmetic throughout.

    Args:
        graph: of primitive operators, float32.
        calibration: ranges of this graph's values.
        contract: decides the input's scale: 1/255 or 1, so that uint8 pixels are exact.
        io: type of the file's input and output; ``float32`` adds a QUANTIZE and a
            DEQUANTIZE, ``uint8`` two QUANTIZE that only shift the zero point.
        keep_float: outputs of the nodes that are computed in float32.
        kernel_scales: ``channel``, or ``tensor`` for one scale a kernel (12 bytes less per
            output channel); those of depthwise convolutions are per channel in any case.

    Raises:
        InputError: an unknown ``io`` or ``kernel_scales``, or a calibration of another graph.
    """
    if kernel_scales not in KERNEL_SCALES:
        known = " or ".join(KERNEL_SCALES)
        raise InputError(f"kernel_scales must be {known}, got {kernel_scales!r}")
    if io not in IO_TYPES:
        raise InputError(f"io must be one of {', '.join(IO_TYPES)}, got {io!r}")
    expected = {graph.input, *(node.output for node in graph.nodes)}
    lacking, foreign = expected - calibration.ranges.keys(), calibration.ranges.keys() - expected
    if lacking or foreign:
        raise InputError(
            f"calibration of another graph: it lacks {len(lacking)} of the {len(expected)} "
            f"activations and has {len(foreign)} others; calibrate again"
        )
    per_tensor = kernel_scales == "tensor"
    return _Quantizer(graph, calibration, contract, io, frozenset(keep_float), per_tensor).run()


def asymmetric(low: float, high: float) -> Quantization:
    """int8 over low..high, widened to hold zero exactly (padding is zero)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, _SMALLEST_SCALE)
    return Quantization.per_tensor(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def symmetric(
    weight: NDArray[np.float32], axis: int, least: NDArray[np.float64] | float = 0.0
) -> tuple[NDArray[np.int8], Quantization]:
    """int8 kernel in -127..127 with one scale per channel of ``axis``, at least ``least``."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peak = np.abs(weight).max(axis=others).astype(np.float64)
    # A channel of zeros gets a small scale: XNNPACK refuses one of 256 output steps.
    scale = np.maximum(peak / 127, np.maximum(least, _SMALLEST_SCALE)).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    values = np.clip(np.round(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
    return values, Quantization(scale, np.zeros(len(scale), np.int64), axis)


class _Quantizer:
    def __init__(
        self,
        graph: Graph,
        calibration: Calibration,
        contract: ModelContract,
        io: str,
        keep_float: frozenset[str],
        per_tensor: bool,
    ) -> None:
        self.graph, self.io, self.keep_float = graph, io, keep_float
        self.per_tensor = per_tensor
        self.scales = _activation_scales(graph, calibration)
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
        output = self.b.add_node(node.op, inputs, shape, **node.attributes)
        quantization = self.scales[node.output] if dtype == "int8" else None
        self.names[node.output, dtype] = self.b.typed(output, dtype, quantization)

    def _float_operand(self, name: str) -> str:
        value = self.graph.values[name]
        if value.data is None:
            return self._activation(name, "float32")
        return self.b.constant(value.data)

    def _convolution_inputs(self, node: Node) -> list[str]:
        x, weight, bias = node.inputs
        step = self.scales[x].scale.astype(np.float64)
        real_bias = _data(self.graph.values[bias])
        # Beside a tiny kernel a bias would overflow: the channel gets a coarser scale.
        least = np.abs(real_bias) / (step * _BIAS_UNITS)
        axis, real_kernel = 0 if node.op == "conv2d" else 3, _data(self.graph.values[weight])
        common = self.per_tensor and node.op == "conv2d"
        if common:
            least = np.maximum(least, np.abs(real_kernel).max() / 127).max(keepdims=True)
        kernel, quantization = symmetric(real_kernel, axis, least)
        if common:
            quantization = Quantization.per_tensor(float(quantization.scale[0]), 0)
        scale = step * quantization.scale
        quantized_bias = np.round(real_bias / scale).astype(np.int32)
        bias_quantization = Quantization(scale.astype(np.float32), np.zeros(len(scale), np.int64))
        return [
            self._activation(x, "int8"),
            self._constant(kernel, quantization),
            self._constant(quantized_bias, bias_quantization),
        ]

    def _operand(self, name: str, like: Quantization | None = None) -> str:
        value = self.graph.values[name]
        if value.data is None:
            return self._activation(name, "int8")
        data = _data(value)
        quantization = like or asymmetric(float(data.min()), float(data.max()))
        units = np.round(data / quantization.scale[0]) + quantization.zero_point[0]
        return self._constant(np.clip(units, -128, 127).astype(np.int8), quantization)

    def _constant(self, data: NDArray[np.generic], quantization: Quantization) -> str:
        return self.b.typed(self.b.constant(data), str(data.dtype), quantization)


def _activation_scales(graph: Graph, calibration: Calibration) -> dict[str, Quantization]:
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
    return {name: asymmetric(*ranges[root(name)]) for name in calibration.ranges}


def _data(value: Value) -> NDArray[np.float32]:
    assert value.data is not None
    return value.data
