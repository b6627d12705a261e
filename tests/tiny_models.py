"""Models of a few operators, in every format that a runner opens, for tests.

Each maps pixels to the probability sigmoid(w . rgb + bias), per pixel: small enough
to build by hand, and its answer is known in closed form (:func:`expected`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = np.array([-4.0, -2.0, -1.0], dtype=np.float32)  # dark pixels are lesion
BIAS = np.float32(3.0)


def expected(image_nhwc: np.ndarray, contract: Any) -> np.ndarray:
    """What the float models give: (N, H, W, 3) uint8 -> (N, H, W, 1) float32."""
    real = contract.normalize(image_nhwc)
    return (1.0 / (1.0 + np.exp(-(real @ WEIGHTS + BIAS))))[..., None].astype(np.float32)


def onnx_bytes(
    contract: dict[str, Any] | str | None = None,
    *,
    size: int = 32,
    batch: int | str = 1,
    bias: float = float(BIAS),
    outputs: int = 1,
    input_shape: list[Any] | None = None,
    input_type: str = "FLOAT",
    sigmoid: bool = True,
) -> bytes:
    """A 1x1 convolution and a sigmoid: NCHW float32 -> (N, 1, H, W)."""
    from onnx import TensorProto, helper

    shape = input_shape or [batch, 3, size, size]
    source = "image"
    nodes = []
    if input_type != "FLOAT":
        nodes.append(helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT))
        source = "real"
    last = "logit" if sigmoid else "p0"
    nodes.append(helper.make_node("Conv", [source, "w", "b"], [last]))
    nodes += [
        helper.make_node("Sigmoid", ["logit"], [f"p{i}"]) for i in range(outputs if sigmoid else 0)
    ]
    channels = shape[1]
    kernel = np.resize(WEIGHTS, channels).tolist()
    result = [shape[0], 1, *shape[2:]]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", getattr(TensorProto, input_type), shape)],
        [helper.make_tensor_value_info(f"p{i}", TensorProto.FLOAT, result) for i in range(outputs)],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [1, channels, 1, 1], kernel),
            helper.make_tensor("b", TensorProto.FLOAT, [1], [bias]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if contract is not None:
        text = contract if isinstance(contract, str) else json.dumps(contract)
        helper.set_model_props(model, {"egeunet.contract": text})
    return bytes(model.SerializeToString())


def tflite_bytes(
    contract: dict[str, Any] | str | None = None,
    *,
    size: int = 32,
    io: str = "float32",
    bias: float = float(BIAS),
    outputs: int = 1,
    input_shape: tuple[int, ...] | None = None,
    input_quantization: tuple[float, int] | None = (1 / 255, 0),
    output_quantization: tuple[float, int] | None = (1 / 255, 0),
    crash: bool = False,
) -> bytes:
    """[DEQUANTIZE,] CONV_2D, LOGISTIC [, QUANTIZE]: NHWC -> (1, H, W, 1) as ``io``.

    The arithmetic is float32 in all of them; only input and output are quantized,
    which is what a runner has to deal with. ``crash`` makes a file that passes LiteRT's
    verifier and ends the process by a segmentation fault: an output nobody computes.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    kinds = {
        "float32": s.TensorType.FLOAT32,
        "uint8": s.TensorType.UINT8,
        "int8": s.TensorType.INT8,
        "int32": s.TensorType.INT32,
    }
    float32, kind = s.TensorType.FLOAT32, kinds[io]
    shape = input_shape or (1, size, size, 3)
    result = (*shape[:-1], 1)
    buffers = [b"", np.resize(WEIGHTS, shape[-1]).tobytes(), np.float32([bias]).tobytes()]
    tensors = [
        _tensor(s, "image", shape, kind, 0, input_quantization if io != "float32" else None),
        _tensor(s, "w", (1, 1, 1, shape[-1]), float32, 1),
        _tensor(s, "b", (1,), float32, 2),
        _tensor(s, "real", shape, float32, 0),
        _tensor(s, "logit", result, float32, 0),
    ]
    tensors += [_tensor(s, f"p{i}", result, float32, 0) for i in range(outputs)]
    codes: list[int] = []
    operators: list[Any] = []

    def add(code: int, inputs: list[int], out: int, options_type: int = 0, options: Any = None):
        if code not in codes:
            codes.append(code)
        op = s.OperatorT()
        op.opcodeIndex = codes.index(code)
        op.inputs, op.outputs = np.int32(inputs), np.int32([out])
        op.builtinOptionsType, op.builtinOptions = options_type, options
        operators.append(op)

    source = 0
    if io != "float32":
        add(s.BuiltinOperator.DEQUANTIZE, [0], 3)
        source = 3
    convolution = s.Conv2DOptionsT()
    convolution.strideH = convolution.strideW = 1
    add(s.BuiltinOperator.CONV_2D, [source, 1, 2], 4, s.BuiltinOptions.Conv2DOptions, convolution)
    results = []
    for index in range(outputs):
        add(s.BuiltinOperator.LOGISTIC, [4], 5 + index)
        results.append(5 + index)
        if io != "float32":
            tensors.append(_tensor(s, f"q{index}", result, kind, 0, output_quantization))
            add(s.BuiltinOperator.QUANTIZE, [5 + index], len(tensors) - 1)
            results[-1] = len(tensors) - 1

    if crash:
        operators[-1].outputs = np.int32([4])

    graph = s.SubGraphT()
    graph.tensors, graph.operators, graph.name = tensors, operators, "main"
    graph.inputs, graph.outputs = np.int32([0]), np.int32(results)
    model = s.ModelT()
    model.version, model.description, model.subgraphs = 3, "tiny", [graph]
    model.operatorCodes = [_code(s, code) for code in codes]
    if contract is not None:
        text = contract if isinstance(contract, str) else json.dumps(contract)
        entry = s.MetadataT()
        entry.name, entry.buffer = "EGEUNET_CONTRACT", len(buffers)
        model.metadata = [entry]
        buffers.append(text.encode())
    model.buffers = [_buffer(s, data) for data in buffers]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(s: Any, name: str, shape: Any, kind: int, buffer: int, quantization: Any = None) -> Any:
    tensor = s.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.int32(shape), kind, buffer
    if quantization is not None:
        tensor.quantization = s.QuantizationParametersT()
        tensor.quantization.scale = np.float32([quantization[0]])
        tensor.quantization.zeroPoint = np.int64([quantization[1]])
    return tensor


def _code(s: Any, code: int) -> Any:
    entry = s.OperatorCodeT()
    entry.builtinCode = code
    entry.deprecatedBuiltinCode = min(code, 127)
    entry.version = 1
    return entry


def _buffer(s: Any, data: bytes) -> Any:
    buffer = s.BufferT()
    buffer.data = np.frombuffer(data, dtype=np.uint8) if data else None
    return buffer


def random_weights(path: Path, seed: int = 0, size: int = 64) -> Path:
    """A real EGE-UNet with random parameters, saved with its contract."""
    import torch

    from egeunet.model import EGEUNet, ModelContract, save_weights

    torch.manual_seed(seed)
    save_weights(path, EGEUNet().eval(), ModelContract(height=size, width=size))
    return path
