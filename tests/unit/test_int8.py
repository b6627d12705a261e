"""int8: the arithmetic of scales, what is quantized, and what whole files give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.lean import build_lean_graph
from egeunet.export.runners.tensor_port import TensorPort
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.grids import asymmetric, symmetric
from egeunet.quantize.int8 import IO_TYPES, quantize_int8

pytestmark = pytest.mark.xdist_group("tflite")
CONTRACTS = {n: ModelContract(64, 64, normalization=n) for n in ("unit", "minmax255")}
IMAGES = np.stack([synthetic_sample(index, 64, 7)[0] for index in range(4)])
finite = st.floats(-1e6, 1e6)
_ONES = np.ones(1, np.float32)


@settings(deadline=None, max_examples=200)
@given(bounds=st.tuples(finite, finite).map(sorted))
def test_asymmetric_holds_zero_exactly_and_covers_the_range(bounds: list[float]) -> None:
    low, high = bounds
    quantization = asymmetric(low, high)
    scale, zero = float(quantization.scale[0]), int(quantization.zero_point[0])
    assert -128 <= zero <= 127  # real 0 is the integer `zero`: padding is exact
    ends = (-128 - zero) * scale, (127 - zero) * scale
    # Zero's place is rounded, so an end may move by half a step, plus float32's rounding.
    slack = 0.5 * scale * (1 + 1e-4)
    assert ends[0] <= min(low, 0) + slack and ends[1] >= max(high, 0) - slack
    # No wider than needed (but where everything is zero).
    assert scale <= max((max(high, 0) - min(low, 0)) / 255, 1e-9) * (1 + 1e-6)


kernels = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))


@settings(deadline=None, max_examples=50)
@given(shape=kernels, axis=st.sampled_from([0, 3]), power=st.integers(-20, 10))
def test_symmetric_weight_error(shape: tuple[int, int, int], axis: int, power: int) -> None:
    channels, side, seed = shape
    weight = np.random.default_rng(seed).normal(size=(channels, side, side, channels))
    weight = (weight * 2.0**power).astype(np.float32)
    values, quantization = symmetric(weight, axis)
    assert values.dtype == np.int8 and values.min() >= -127  # -128 is not used
    assert quantization.axis == axis and not quantization.zero_point.any()
    scale = quantization.scale.reshape([-1 if i == axis else 1 for i in range(4)])
    error = np.abs(values * scale.astype(np.float64) - weight)
    assert (error <= scale / 2 * (1 + 1e-5)).all()
    others = tuple(i for i in range(4) if i != axis)
    # The peak uses the whole range; of a tiny kernel, whose scale is the
    # least there is, what it is worth.
    worth = np.rint(np.abs(weight).max(axis=others) / quantization.scale)
    wanted = np.where(quantization.scale > np.float32(1e-9), 127, worth)
    assert (np.abs(values.astype(int)).max(axis=others) == wanted).all()


def test_a_channel_of_zeros() -> None:
    weight = np.zeros((2, 1, 1, 3), np.float32)
    weight[0] = 0.5
    values, quantization = symmetric(weight, 0)
    assert values.reshape(2, 3).tolist() == [[127] * 3, [0] * 3]
    assert 0 < quantization.scale[1] <= quantization.scale[0]


def run(graph: Graph, image_nhwc: Any, contract: ModelContract) -> Any:
    """Output of a graph with float32 pixels of 0..255 -> float32, through its own types."""
    interpreter = Interpreter(model_content=emit_tflite(graph, contract), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    ports = [
        TensorPort(
            detail["index"], tuple(detail["shape"]), np.dtype(detail["dtype"]).name,
            *detail["quantization"],
        )
        for detail in (source, result)
    ]  # fmt: skip
    outputs = []
    for image in image_nhwc:
        stored = ports[0].quantize(contract.normalize(image[None]))
        interpreter.set_tensor(source["index"], stored)
        interpreter.invoke()
        outputs.append(ports[1].dequantize(interpreter.get_tensor(result["index"])))
    return np.concatenate(outputs)


def test_a_bias_beside_a_tiny_kernel_is_kept() -> None:
    """Its 32 bits would overflow at the product of the scales."""
    contract = ModelContract(32, 32)
    b = GraphBuilder((1, 32, 32, 3))
    weight = np.array([[1e-12] * 3, [0] * 3, [0.5] * 3], np.float32).reshape(3, 1, 1, 3)
    bias = np.array([0.7, -0.4, 0.1], np.float32)
    graph = b.finish(b.elementwise("sigmoid", b.conv2d(b.input, weight, bias)))
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    quantized = quantize_int8(
        graph, calibrate(graph, contract, image, source="", weights_sha256=""), contract
    )
    (data,) = [v.data for v in quantized.constants() if v.dtype == "int32"]
    assert data is not None and np.abs(data.astype(np.int64)).max() <= 2**30 * (1 + 1e-6)
    probability = run(quantized, image, contract)[0, :, :, :2].reshape(-1, 2)
    want = 1 / (1 + np.exp(-bias[:2]))
    assert np.abs(probability - want).max() <= 1.5 / 256


@pytest.fixture(scope="module")
def network() -> Graph:
    torch.manual_seed(5)
    return build_lean_graph(EGEUNet().eval(), CONTRACTS["unit"])


def calibrated(graph: Graph, name: str) -> Calibration:
    return calibrate(graph, CONTRACTS[name], IMAGES, source="", weights_sha256="")


@pytest.mark.parametrize("name", CONTRACTS)
def test_input_and_output_types_give_the_same_masks(network: Graph, name: str) -> None:
    calibration = calibrated(network, name)
    results = {
        io: run(quantize_int8(network, calibration, CONTRACTS[name], io), IMAGES, CONTRACTS[name])
        for io in IO_TYPES
    }
    assert 0.01 < (results["float32"] >= 0.5).mean() < 0.99  # there is something to compare
    for io in ("uint8", "int8"):
        assert np.array_equal(results[io], results["float32"]), io


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("io", ["uint8", "int8"])
def test_pixels_are_stored_without_loss(network: Graph, name: str, io: str) -> None:
    contract = CONTRACTS[name]
    quantized = quantize_int8(network, calibrated(network, name), contract, io)
    value = quantized.values[quantized.input]
    assert value.dtype == io and value.quantization is not None
    scale, zero = float(value.quantization.scale[0]), int(value.quantization.zero_point[0])
    port = TensorPort(0, value.shape, io, scale, zero)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 8, 32, 1).repeat(3, axis=3)
    stored = port.quantize(contract.normalize(pixels))
    assert np.array_equal(stored.astype(int), pixels.astype(int) + zero)
    assert zero == {"uint8": 0, "int8": -128}[io]


def test_everything_is_integer(network: Graph) -> None:
    quantized = quantize_int8(network, calibrated(network, "unit"), CONTRACTS["unit"], "int8")
    assert quantized.operators() == network.operators()
    dtypes = {value.dtype for node in quantized.nodes for value in [quantized.values[node.output]]}
    assert dtypes == {"int8"}
    assert {value.dtype for value in quantized.constants()} == {"int8", "int32"}
    for io, extra in (("float32", {"dequantize": 1, "quantize": 1}), ("uint8", {"quantize": 2})):
        converted = quantize_int8(network, calibrated(network, "unit"), CONTRACTS["unit"], io)
        assert converted.operators() == dict(sorted({**network.operators(), **extra}.items()))


def test_operators_that_move_values_keep_their_scale(network: Graph) -> None:
    quantized = quantize_int8(network, calibrated(network, "unit"), CONTRACTS["unit"], "int8")
    checked = 0
    for node in quantized.nodes:
        if node.op in ("slice", "max_pool", "resize", "concat"):
            for name in node.inputs:
                a, b = (
                    quantized.values[name].quantization,
                    quantized.values[node.output].quantization,
                )
                assert a is not None and b is not None
                assert (a.scale, a.zero_point) == (b.scale, b.zero_point), node
                checked += 1
    assert checked > 100


def chain() -> Graph:
    """a -> b -> c -> sigmoid, with b also read by the last addition."""
    builder = GraphBuilder((1, 64, 64, 3))
    a = builder.add(builder.input, builder.constant(_ONES))
    b = builder.elementwise("gelu", a)
    c = builder.mul(b, builder.constant(_ONES))
    return builder.finish(builder.elementwise("sigmoid", builder.add(c, b)))


@pytest.mark.parametrize(
    ("kept", "dequantize", "quantize"),
    [((), 0, 0), ((0,), 1, 1), ((1,), 1, 1), ((1, 2), 1, 2), ((0, 1, 2), 1, 2),
     ((0, 1, 2, 3), 1, 1), ((0, 1, 2, 3, 4), 1, 0), ((3,), 2, 1), ((0, 3), 3, 2)],
)  # fmt: skip
def test_kept_float_converts_where_it_must_and_once(
    kept: tuple[int, ...], dequantize: int, quantize: int
) -> None:
    graph = chain()
    names = [graph.nodes[index].output for index in kept]
    calibration, contract = calibrated(graph, "unit"), CONTRACTS["unit"]
    quantized = quantize_int8(graph, calibration, contract, "int8", names)
    counts = quantized.operators()
    closing = 1 if 4 in kept else 0  # a float sigmoid is quantized for an int8 output
    found = counts.get("dequantize", 0), counts.get("quantize", 0)
    assert found == (dequantize, quantize + closing)
    floats = [n for n in quantized.nodes if quantized.values[n.output].dtype == "float32"]
    assert len([n for n in floats if n.op != "dequantize"]) == len(kept)
    plain = run(quantize_int8(graph, calibration, contract, "int8"), IMAGES, contract)
    assert np.abs(run(quantized, IMAGES, contract) - plain).max() <= 4 / 256


def test_calibration_of_another_graph(network: Graph) -> None:
    with pytest.raises(InputError, match=r"lacks \d+ of the \d+ activations .* calibrate again"):
        quantize_int8(network, calibrated(chain(), "unit"), CONTRACTS["unit"])
    calibration = calibrated(network, "unit")
    calibration.ranges["v9999"] = (0.0, 1.0)
    with pytest.raises(InputError, match=r"lacks 0 .* has 1 others"):
        quantize_int8(network, calibration, CONTRACTS["unit"])


def test_unknown_io() -> None:
    graph = chain()
    with pytest.raises(InputError, match="io must be one of uint8, int8, float32, got 'int16'"):
        quantize_int8(graph, calibrated(graph, "unit"), CONTRACTS["unit"], "int16")
