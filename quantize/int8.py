"""Static full-integer quantization of a primitive graph: int8 activations and weights.

The arithmetic is LiteRT's (its quantization specification): activations asymmetric per
tensor, convolution kernels symmetric per output channel, biases int32 at the product of
the scales, other constants asymmetric per tensor.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, GraphBuilder, Node, Quantization, data_of
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.grids import (
    KERNEL_SCALES,
    LARGEST_FLOAT,
    LARGEST_FLOAT_KERNEL,
    ONE_SCALE,
    POINTWISE_BITS,
    SMALLEST_FOUR_BIT,
    Kernels,
    asymmetric,
    require_known,
    symmetric,
)
from egeunet.quantize.scale_ties import (
    SAME_SCALE,
    in_group_norm,
    in_layer_norm,
    scale_roots,
    small_outputs,
    tied_inputs,
)

IO_TYPES = ("uint8", "int8", "float32")
#: LOGISTIC's output scale is fixed by the specification.
_PROBABILITY = Quantization.per_tensor(1 / 256, -128)
_UINT8_PROBABILITY = Quantization.per_tensor(1 / 256, 0)
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
    four_bit_inputs: int = SMALLEST_FOUR_BIT,
    float_pixels: int = 0,
) -> Graph:
    """The graph with integer arithmetic throughout.

    Args:
        graph: of primitive operators, float32.
        calibration: ranges of this graph's values.
        contract: decides the input's scale: 1/255 or 1, so that uint8 pixels are exact.
        io: type of the file's input and output; ``float32`` adds a QUANTIZE and a
            DEQUANTIZE, ``uint8`` two QUANTIZE that only shift the zero point.
        keep_float: outputs of the nodes that are computed in float32.
        kernel_scales: one of :data:`egeunet.quantize.grids.KERNEL_SCALES`; the last two also
            give all biases one scale in the file, where runtimes take it from the input's and
            the kernel's.
        pointwise_bits: of 1x1 kernels; those of 4 bits have a scale a channel and become
            fully connected operators, the only ones with fast kernels for them.
        scale_steps: that many scales an octave and 16 zero points, so that many values
            share theirs (bytes); scales of a channel apart. 0 = any.
        four_bit_inputs: kernels of 4 bits are those with so many inputs or more.
        float_pixels: what works on maps of at most so many pixels is computed in float32 as
            well. Kernels and larger constants are integers there all the same, but for those of
            norms: a 1x1 convolution becomes a hybrid operator, which quantizes its input as it
            runs, by each pixel's own extremes; a depthwise kernel, or a map that is multiplied
            by, is dequantized.

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
    kernels = Kernels(graph, kernel_scales, pointwise_bits, four_bit_inputs)
    small = small_outputs(graph, float_pixels)
    kept = frozenset(keep_float) | small
    return _Quantizer(graph, calibration, contract, io, kept, small, kernels, scale_steps).run()


class _Quantizer:
    def __init__(
        self,
        graph: Graph,
        calibration: Calibration,
        contract: ModelContract,
        io: str,
        keep_float: frozenset[str],
        small: frozenset[str],
        kernels: Kernels,
        steps: int,
    ) -> None:
        self.graph, self.io, self.keep_float = graph, io, keep_float
        self.kernels, self.steps = kernels, steps
        #: Outputs of the nodes in float32 whose constants are integers.
        self.hybrid = {node.output for node in graph.nodes if is_hybrid(graph, node, small)}
        self.scales = _activation_scales(graph, calibration, steps, small)
        self.pixel_scale = contract.pixel_scale
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
        if node.output in self.hybrid:
            inputs = self._hybrid_inputs(node)
        elif dtype == "float32":
            inputs = [self._float_operand(name) for name in node.inputs]
        elif node.op in ("conv2d", "depthwise_conv2d"):
            inputs = self._convolution_inputs(node)
        else:
            like = self.scales[node.output] if node.op in SAME_SCALE else None
            inputs = [self._operand(name, like) for name in node.inputs]
        shape = self.graph.values[node.output].shape
        op, attributes = node.op, node.attributes
        if self._is_fully_connected(node):
            op, attributes = "fully_connected", {}
        output = self.b.add_node(op, inputs, shape, **attributes)
        quantization = self.scales[node.output] if dtype == "int8" else None
        self.names[node.output, dtype] = self.b.typed(output, dtype, quantization)

    def _float_operand(self, name: str) -> str:
        value = self.graph.values[name]
        if value.data is None:
            return self._activation(name, "float32")
        return self.b.constant(value.data)

    def _is_fully_connected(self, node: Node) -> bool:
        """Whether a convolution is written as the operator that has kernels for its numbers."""
        if node.op != "conv2d" or node.output in self.hybrid:
            return node.op == "conv2d"
        return node.output not in self.keep_float and self.kernels.bits(node) == 4

    def _hybrid_inputs(self, node: Node) -> list[str]:
        """Operands of a float32 node whose constants are integers where they are many."""
        if node.op not in ("conv2d", "depthwise_conv2d"):
            return [self._stored_operand(name) for name in node.inputs]
        x, _, *bias = node.inputs
        kernel, _ = self._kernel(node)
        if node.op == "depthwise_conv2d":
            kernel = self._dequantized(kernel)
        return [self._activation(x, "float32"), kernel, *map(self._float_operand, bias)]

    def _stored_operand(self, name: str) -> str:
        """A float32 operand that is stored as int8 if it is a large constant."""
        data = self.graph.values[name].data
        if data is None or data.size <= LARGEST_FLOAT:
            return self._float_operand(name)
        return self._dequantized(self._operand(name))

    def _dequantized(self, constant: str) -> str:
        return self.b.add_node("dequantize", (constant,), self.b.shape(constant))

    def _kernel(
        self, node: Node, least: NDArray[np.float64] | float = 0.0
    ) -> tuple[str, Quantization]:
        """A convolution's kernel as an integer constant whose scales are ``least`` at least."""
        kernels, data = self.kernels, data_of(self.graph.values[node.inputs[1]])
        values, quantization = symmetric(
            data, kernels.axis(node), least, kernels.levels(node), self.steps
        )
        if self._is_fully_connected(node):
            values = values[:, 0, 0]  # (O, I)
        return self._constant(values, quantization, f"int{kernels.bits(node)}"), quantization

    def _convolution_inputs(self, node: Node) -> list[str]:
        x, _, *bias = node.inputs
        step = self.scales[x].scale.astype(np.float64)
        channels = self.graph.values[node.output].shape[3]
        real_bias = data_of(self.graph.values[bias[0]]) if bias else np.zeros(channels, np.float32)
        # Beside a tiny kernel a bias would overflow: the channel gets a coarser scale.
        kernel, quantization = self._kernel(node, np.abs(real_bias) / (step * _BIAS_UNITS))
        scale = (step * quantization.scale).astype(np.float32)
        quantized_bias = np.round(real_bias / (step * quantization.scale)).astype(np.int32)
        # LiteRT's own FULLY_CONNECTED compares a single scale with the product of the others.
        compared = self._is_fully_connected(node) and len(quantization.scale) == 1
        if self.kernels.scales in ONE_SCALE and not compared:
            scale = np.ones_like(scale)
        return [
            self._activation(x, "int8"),
            kernel,
            self._constant(quantized_bias, Quantization(scale, np.zeros(len(scale), np.int64))),
        ]

    def _operand(self, name: str, like: Quantization | None = None) -> str:
        value = self.graph.values[name]
        if value.data is None:
            return self._activation(name, "int8")
        data = data_of(value)
        quantization = like or asymmetric(float(data.min()), float(data.max()), self.steps)
        units = np.round(data / quantization.scale[0]) + quantization.zero_point[0]
        return self._constant(np.clip(units, -128, 127).astype(np.int8), quantization)

    def _constant(
        self, data: NDArray[np.generic], quantization: Quantization, dtype: str = ""
    ) -> str:
        return self.b.typed(self.b.constant(data), dtype or str(data.dtype), quantization)


def is_hybrid(graph: Graph, node: Node, small: Collection[str]) -> bool:
    """Whether a float32 node of a small map has constants that are integers: not norms, whose
    sums need every digit, nor what has too few to be worth a scale."""
    if node.output not in small or in_group_norm(node) or in_layer_norm(node):
        return False
    least = LARGEST_FLOAT_KERNEL if node.op == "conv2d" else LARGEST_FLOAT
    constants = [value.data for value in map(graph.values.__getitem__, node.inputs)]
    return any(data is not None and data.size > least for data in constants)


def _activation_scales(
    graph: Graph, calibration: Calibration, steps: int, small: Collection[str]
) -> dict[str, Quantization]:
    """Scales by value; those tied by a SAME_SCALE operator share the union of ranges."""
    root = scale_roots(graph, small)
    ranges: dict[str, tuple[float, float]] = {}
    seen = dict(calibration.ranges)
    for node in graph.nodes:
        for name in tied_inputs(node, small):
            data = graph.values[name].data
            if data is not None:
                seen[name] = float(data.min()), float(data.max())
    for name, (low, high) in seen.items():
        old = ranges.get(root(name), (0.0, 0.0))
        ranges[root(name)] = (min(old[0], low), max(old[1], high))
    return {name: asymmetric(*ranges[root(name)], steps) for name in calibration.ranges}
