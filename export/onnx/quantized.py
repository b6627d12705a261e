"""An integer graph in QDQ form: real operators between DequantizeLinear and QuantizeLinear.

ONNX Runtime fuses each such group into its integer kernel (QLinearConv, QLinearAdd, ...) when
it loads the file; what has no integer kernel is computed in float32 on the same numbers, and
other runtimes may do either. What was measured, with ONNX Runtime 1.32 and a network of static
norms (docs/decisions.md 16 has the figures):

- Activations are uint8: for int8 ones x86-64 fuses less than half of the operators. The int8
  of the graph and this uint8 are the same numbers, 128 apart, so that a uint8 image and a uint8
  probability need no operator at all.
- Weights are int8 with zero point 0: only then the kernels without im2col serve.
- ``x - constant`` is ``x + (-constant)``: there is an integer Add and no integer Sub.
- Resize stays in float32. On uint8 the kernel takes longer and rounds down. Older versions
  (1.22, not 1.32) use it all the same where both sides have one scale, so its own
  DequantizeLinear has the next larger float32 as scale, which changes nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from egeunet.export.graph import Array, Graph, Node, Value, data_of
from egeunet.export.onnx.builder import OnnxBuilder, channels_first
from egeunet.export.onnx.operators import BILINEAR, LOWERINGS, split

#: What is added to an int8 value, and to its zero point, to store it as uint8.
_UNSIGNED = 128
#: Integer operators that are written as the real ones are.
_REAL_FORM = ("add", "mul", "sigmoid", "concat", "slice", "max_pool")
#: Convolutions by the order of axes that makes their kernels (O, I, height, width).
_CONVOLUTIONS = {
    "conv2d": (0, 3, 1, 2), "pixel_group_conv2d": (0, 3, 1, 2), "fully_connected": (0, 3, 1, 2),
    "depthwise_conv2d": (3, 0, 1, 2),
}  # fmt: skip


def is_integer(graph: Graph) -> bool:
    """Whether a graph's nodes give anything but float32."""
    return any(graph.values[node.output].dtype != "float32" for node in graph.nodes)


class QdqBuilder(OnnxBuilder):
    """Activations have a stored form (uint8), in ``names``, and a real one, made when needed."""

    def __init__(self, graph: Graph, input_name: str) -> None:
        super().__init__(graph, input_name)
        self._real: dict[str, str] = {}
        #: Output of a ``dequantize`` -> what it dequantizes, which is done where it is needed.
        self.dequantized: dict[str, str] = {}

    def open(self) -> None:
        """An int8 image, as this file's values are stored."""
        start = self.graph.values[self.graph.input]
        if start.dtype == "int8":
            real = self.add("DequantizeLinear", [self.names[start.name], *self._signed(start)])
            self.names[start.name] = self.stored(real, start)

    def close(self) -> str:
        """The name of the file's output, in the graph's type."""
        last = self.graph.values[self.graph.output]
        if last.dtype == "uint8":
            return self.names[last.name]
        if last.dtype == "float32":
            return self.operand(last.name)
        return self.add("QuantizeLinear", [self.operand(last.name), *self._signed(last)])

    def operand(self, name: str) -> str:
        """A value of the graph as a real number that broadcasts over (N, C, H, W)."""
        name = self.dequantized.get(name, name)
        value = self.graph.values[name]
        if value.dtype == "float32":
            return super().operand(name)
        if name not in self._real:
            inputs = [self._integers(value), *self.scale_of(value)]
            self._real[name] = self.add("DequantizeLinear", inputs)
        return self._real[name]

    def stored(self, real: str, like: Value) -> str:
        """A real number rounded to the stored form of ``like``; itself for float32."""
        if like.dtype == "float32":
            return real
        return self.add("QuantizeLinear", [real, *self.scale_of(like)])

    def apart(self, name: str) -> str:
        """:meth:`operand` with a scale of its own, one unit in the last place larger."""
        name = self.dequantized.get(name, name)
        value = self.graph.values[name]
        if value.dtype == "float32":
            return self.operand(name)
        scale, zero_point = _parameters(value)
        larger = np.asarray(np.nextafter(scale, np.float32(np.inf), dtype=np.float32))
        inputs = [self._integers(value), self.constant(larger), self.constant(zero_point)]
        return self.add("DequantizeLinear", inputs)

    def parameter(self, data: Array, scale: Array) -> str:
        """A kernel (O, ...) or a bias (O,) with zero point 0, as real numbers."""
        if len(scale) == 1:
            parameters = [scale[0], np.zeros((), data.dtype)]
            return self.add("DequantizeLinear", [self.constant(x) for x in (data, *parameters)])
        parameters = [scale, np.zeros(len(scale), data.dtype)]
        constants = [self.constant(x) for x in (data, *parameters)]
        return self.add("DequantizeLinear", constants, axis=0)

    def negative(self, name: str) -> str:
        """Minus a constant of the graph, exactly: -(q - z) = (-1 - q) - (-1 - z)."""
        value = self.graph.values[name]
        scale, zero_point = _parameters(value)
        # Of uint8, 255 - q is what -1 - q is of int8, and is the inverse of its bits.
        opposites = ~_stored(channels_first(value), value), scale, np.asarray(~zero_point)
        constants = [self.constant(each) for each in opposites]
        return self.add("DequantizeLinear", constants)

    def scale_of(self, value: Value) -> list[str]:
        """Scale and zero point of a value's stored form, as operands."""
        return [self.constant(each) for each in _parameters(value)]

    def _integers(self, value: Value) -> str:
        if value.data is None:
            return self.names[value.name]
        return self.constant(_stored(channels_first(value), value))

    def _signed(self, value: Value) -> list[str]:
        scale, zero_point = _parameters(value)
        signed = np.array(int(zero_point) - _UNSIGNED, np.int8)
        return [self.constant(scale), self.constant(signed)]


def lower(b: QdqBuilder, node: Node) -> None:
    """Append what computes a node and remember its output's name.

    Raises:
        NotImplementedError: an operator that has no lowering with its type.
    """
    output = b.graph.values[node.output]
    if node.op == "dequantize":
        b.dequantized[node.output] = node.inputs[0]
    elif node.op == "quantize":
        source = b.graph.values[node.inputs[0]]
        same = source.dtype != "float32" and _parameters(source) == _parameters(output)
        b.names[node.output] = (
            b.names[source.name] if same else b.stored(b.operand(source.name), output)
        )
    elif node.op == "relu" and output.dtype == "int8":  # on the stored form: there is a Clip
        _, zero_point = _parameters(output)
        b.names[node.output] = b.add("Clip", [b.names[node.inputs[0]], b.constant(zero_point)])
    else:
        b.names[node.output] = b.stored(_real(b, node, output), output)


def lower_split(b: QdqBuilder, nodes: list[Node]) -> None:
    """One Split for slices that together cover their input."""
    for node, real in zip(nodes, split(b, nodes), strict=True):
        b.names[node.output] = b.stored(real, b.graph.values[node.output])


def _real(b: QdqBuilder, node: Node, output: Value) -> str:
    """The name of the real number that a node gives, before it is rounded."""
    if node.op == "resize":
        return _resize(b, node)
    if node.op in _CONVOLUTIONS and _kernel(b, node).dtype != "float32":
        return _convolution(b, node)
    if node.op in LOWERINGS and (output.dtype == "float32" or node.op in _REAL_FORM):
        return LOWERINGS[node.op](b, node)
    if node.op == "sub" and b.graph.values[node.inputs[1]].data is not None:
        return b.add("Add", [b.operand(node.inputs[0]), b.negative(node.inputs[1])])
    if node.op == "reshape":
        return _reshape(b, node, output)
    raise NotImplementedError(f"no ONNX lowering of operator {node.op!r} with type {output.dtype}")


def _kernel(b: QdqBuilder, node: Node) -> Value:
    """A convolution's kernel, which a float32 one may dequantize first."""
    return b.graph.values[b.dequantized.get(node.inputs[1], node.inputs[1])]


def _convolution(b: QdqBuilder, node: Node) -> str:
    """A convolution with an integer kernel, of an integer map or a float32 one."""
    x, kernel, bias = b.graph.values[node.inputs[0]], _kernel(b, node), node.inputs[2]
    assert kernel.quantization is not None
    data, bias_data = data_of(kernel), data_of(b.graph.values[bias])
    if node.op == "fully_connected":  # (O, I), of 4 bits: there are no such kernels here
        data = data[:, None, None]
    data = data.transpose(_CONVOLUTIONS[node.op])
    rows = columns = node.attributes.get("dilation", 1)
    if node.op == "pixel_group_conv2d":  # its columns are groups, see pixel_groups.py
        columns = 1
    attributes: dict[str, Any] = {}
    if node.op == "depthwise_conv2d":
        attributes["group"] = len(data)
    pads = [rows * (data.shape[2] // 2), columns * (data.shape[3] // 2)]
    if any(pads):
        attributes["pads"] = pads * 2
    if (rows, columns) != (1, 1):
        attributes["dilations"] = [rows, columns]
    scale = kernel.quantization.scale
    inputs = [b.operand(x.name), b.parameter(data, scale)]
    if x.quantization is None:
        inputs.append(b.weight(bias_data))
    elif bias_data.any():  # in units of the products, whatever the graph says of its scale
        inputs.append(b.parameter(bias_data, x.quantization.scale[0] * scale))
    return b.add("Conv", inputs, **attributes)


def _resize(b: QdqBuilder, node: Node) -> str:
    """As it is: ONNX Runtime itself puts channels last between integer convolutions."""
    n, height, width, channels = b.graph.values[node.output].shape
    sizes = b.constant(np.array([n, channels, height, width]))
    return b.add("Resize", [b.apart(node.inputs[0]), "", "", sizes], **BILINEAR)


def _reshape(b: QdqBuilder, node: Node, output: Value) -> str:
    """Of (1, H, W, C): what ONNX Runtime has in memory once it has put channels last, so that
    the two transpositions vanish."""
    value = b.graph.values[node.inputs[0]]
    x = b.add("Transpose", [b.operand(node.inputs[0])], perm=[0, 2, 3, 1])
    shape = b.constant(np.array(output.shape))
    x = b.add("Reshape", [_again(b, x, value), shape])
    return b.add("Transpose", [_again(b, x, value)], perm=[0, 3, 1, 2])


def _again(b: QdqBuilder, real: str, like: Value) -> str:
    """To the stored form and back, which marks the operator before as one that moves integers."""
    return b.add("DequantizeLinear", [b.stored(real, like), *b.scale_of(like)])


def _parameters(value: Value) -> tuple[Array, Array]:
    """Scale and zero point of the stored form, of rank 0."""
    quantization = value.quantization
    assert quantization is not None and len(quantization.scale) == 1, value.name
    shift = _UNSIGNED if value.dtype == "int8" else 0
    zero_point = np.array(quantization.zero_point[0] + shift, np.uint8)
    return np.array(quantization.scale[0], np.float32), zero_point


def _stored(data: Array, value: Value) -> Array:
    assert value.dtype == "int8", f"constant {value.name} is {value.dtype}"
    return (data.astype(np.int16) + _UNSIGNED).astype(np.uint8)
