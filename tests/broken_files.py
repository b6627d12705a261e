"""Exported files that are broken in one place, as a bug of an exporter would leave them."""

from __future__ import annotations

from typing import Any

import numpy as np

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def tflite(data: bytes) -> Any:
    """The file as objects that can be changed."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data, 0)


def packed(model: Any) -> bytes:
    """The bytes of a changed file."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def convolutions(model: Any) -> list[Any]:
    """Its convolutions in order, of both kinds."""
    from ai_edge_litert import schema_py_generated as schema

    codes = [getattr(schema.BuiltinOperator, name) for name in _CONVOLUTIONS]
    operators = model.subgraphs[0].operators
    return [op for op in operators if model.operatorCodes[op.opcodeIndex].builtinCode in codes]


def graph_kernel(graph: Any, scope: str) -> Any:
    """The kernel of the convolution that :func:`graph_convolution` numbers."""
    nodes = [node for node in graph.nodes if node.op in ("conv2d", "depthwise_conv2d")]
    return graph.values[nodes[graph_convolution(graph, scope)].inputs[1]].data


def graph_convolution(graph: Any, scope: str) -> int:
    """Number, among a graph's convolutions, of the largest one of a scope."""
    nodes = [node for node in graph.nodes if node.op in ("conv2d", "depthwise_conv2d")]
    inside = [i for i, node in enumerate(nodes) if node.scope == scope]
    assert inside, f"no convolution in {scope}"
    return max(inside, key=lambda i: graph.values[nodes[i].inputs[1]].data.size)


def with_zero_weights(data: bytes, number: int) -> bytes:
    """A file in which all weights of one convolution are zero."""
    model = tflite(data)
    graph, index = model.subgraphs[0], convolutions(model)[number].inputs[1]
    for operator in graph.operators:
        if index in operator.outputs:  # float16 is stored behind a DEQUANTIZE
            index = operator.inputs[0]
    kernel = graph.tensors[index]
    buffer = model.buffers[kernel.buffer]
    assert np.asarray(buffer.data).any()
    # A buffer of its own, as equal constants are shared in our files.
    model.buffers.append(type(buffer)())
    model.buffers[-1].data = np.zeros_like(buffer.data)
    kernel.buffer = len(model.buffers) - 1
    return packed(model)


def with_output_inverted(data: bytes, graph: Any) -> bytes:
    """A float file that gives 1 - probability: its last convolution with the other sign."""
    model = tflite(data)
    last = convolutions(model)[graph_convolution(graph, "final")]
    for index in last.inputs[1:3]:
        buffer = model.buffers[model.subgraphs[0].tensors[index].buffer]
        values = -np.frombuffer(bytes(buffer.data), np.float32)
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return packed(model)


def with_zero_points_forgotten(data: bytes) -> bytes:
    """An int8 file in which the constants of additions and products say zero point 0."""
    from ai_edge_litert import schema_py_generated as schema

    model = tflite(data)
    graph = model.subgraphs[0]
    codes = [getattr(schema.BuiltinOperator, name) for name in ("ADD", "MUL")]
    operands = {
        int(index)
        for op in graph.operators
        if model.operatorCodes[op.opcodeIndex].builtinCode in codes
        for index in op.inputs
    }
    for tensor in (graph.tensors[index] for index in operands):
        constant = model.buffers[tensor.buffer].data is not None
        if constant and tensor.type == schema.TensorType.INT8:
            tensor.quantization.zeroPoint = np.zeros(1, np.int64)
    return packed(model)


def onnx_zero_weights(data: bytes, kernel: Any) -> bytes:
    """An .onnx file in which all weights of the convolution with this (O, kh, kw, I) kernel, or
    (1, kh, kw, C) of a depthwise one, are zero."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto.FromString(data)
    orders = [kernel.transpose(order).copy() for order in ((0, 3, 1, 2), (3, 0, 1, 2))]
    wanted = [(order.shape, order.tobytes()) for order in orders]
    changed = 0
    for each in model.graph.initializer:
        array = numpy_helper.to_array(each)
        if (array.shape, array.tobytes()) in wanted:
            each.CopyFrom(numpy_helper.from_array(np.zeros_like(array), each.name))
            changed += 1
    assert changed == 1
    return bytes(model.SerializeToString())


def onnx_reading_nchw_as_nhwc(data: bytes) -> bytes:
    """An .onnx file that takes the channels of its NCHW input for the last axis."""
    import onnx
    from onnx import helper

    model = onnx.ModelProto.FromString(data)
    _, channels, height, width = (
        side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim
    )
    shape = helper.make_tensor("misread", onnx.TensorProto.INT64, [4], [1, height, width, channels])
    for node in model.graph.node:
        node.input[:] = ["mixed" if name == "image" else name for name in node.input]
    nodes = [
        helper.make_node("Reshape", ["image", "misread"], ["last"]),
        helper.make_node("Transpose", ["last"], ["mixed"], perm=[0, 3, 1, 2]),
        *model.graph.node,
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(shape)
    return bytes(model.SerializeToString())


def onnx_giving_nan(data: bytes) -> bytes:
    """An .onnx file with a NaN in the bias of its first convolution."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto.FromString(data)
    node = next(each for each in model.graph.node if each.op_type == "Conv")
    old = next(each for each in model.graph.initializer if each.name == node.input[-1])
    broken = numpy_helper.to_array(old).copy()
    broken.flat[0] = np.nan
    model.graph.initializer.append(numpy_helper.from_array(broken, "broken"))
    node.input[-1] = "broken"
    return bytes(model.SerializeToString())
