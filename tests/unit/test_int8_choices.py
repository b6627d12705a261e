"""The choices of int8.py that save bytes, and that training rounds as they do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

import integer_graphs
from egeunet.export.graph import GraphBuilder
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model.errors import InputError
from egeunet.quantize.grids import (
    KERNEL_SCALES,
    ONE_SCALE,
    ZERO_POINT_UNIT,
    Kernels,
    asymmetric,
    symmetric,
)
from egeunet.quantize.packed import pack
from egeunet.quantize.trained_graph import grid, kernel_on_grid

random, quantized, run = integer_graphs.random, integer_graphs.quantized, integer_graphs.run
CONTRACT, image_for = integer_graphs.CONTRACT, integer_graphs.image_for


@pytest.mark.parametrize(
    "kernels",
    [
        OpResolverType.AUTO,
        OpResolverType.BUILTIN_REF,
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    ],
)
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (24, 5), (48, 1)])
def test_a_pointwise_kernel_of_four_bits_is_a_fully_connected_operator(
    inputs: int, outputs: int, kernels: OpResolverType
) -> None:
    b = GraphBuilder((1, 5, 3, inputs))
    kernel, bias = random(outputs, 1, 1, inputs) / 4, random(outputs)
    graph = pack(quantized(b, b.conv2d(b.input, kernel, bias), pointwise_bits=4))
    assert graph.operators() == {"fully_connected": 1, "sigmoid": 1}
    (weight,) = [value for value in graph.constants() if value.dtype == "int4"]
    assert weight.shape == (outputs, inputs)
    assert weight.data is not None and weight.quantization is not None
    assert np.abs(weight.data).max() == 7
    rounded = weight.data * weight.quantization.scale[:, None]
    logits = (image_for(graph)[0] + 128.0) / 255 @ rounded.T + bias
    wanted = 256 / (1 + np.exp(-np.clip(logits, -8, 8))) - 128
    # Steps of the logit are 16 / 255: four of the probability's at most, and half is rounding.
    assert np.abs(run(graph, kernels) - wanted).max() < 4


def test_two_numbers_of_four_bits_share_a_byte() -> None:
    sizes = {}
    for bits in (8, 4):
        b = GraphBuilder((1, 4, 4, 64))
        graph = quantized(b, b.conv2d(b.input, random(64, 1, 1, 64), random(64)),
                          pointwise_bits=bits)  # fmt: skip
        sizes[bits] = len(emit_tflite(pack(graph), CONTRACT))
    assert abs(sizes[8] - sizes[4] - 2048) <= 64  # the rest is options


@pytest.mark.parametrize(
    ("shape", "bits"),
    [((4, 1, 1, 16), 4), ((4, 1, 1, 14), 8), ((4, 1, 1, 17), 8), ((4, 3, 3, 16), 8)],
)
def test_which_kernels_have_four_bits(shape: tuple[int, ...], bits: int) -> None:
    b = GraphBuilder((1, 4, 4, shape[3]))
    graph = b.finish(b.conv2d(b.input, random(*shape), random(shape[0])))
    assert Kernels(graph, "all-tensor", 4).bits(graph.nodes[0]) == bits
    assert Kernels(graph, "all-tensor", 8).bits(graph.nodes[0]) == 8
    assert Kernels(graph, "all-tensor", 4, shape[3] + 1).bits(graph.nodes[0]) == 8


@pytest.mark.parametrize("kernel_scales", KERNEL_SCALES)
def test_how_many_scales_a_kernel_has(kernel_scales: str) -> None:
    b = GraphBuilder((1, 4, 4, 6))
    logits = b.depthwise_conv2d(b.conv2d(b.input, random(6, 3, 3, 6), random(6)),
                                random(1, 3, 3, 6), random(6))  # fmt: skip
    graph = quantized(b, logits, kernel_scales=kernel_scales)
    dense, depthwise = (
        [len(graph.values[name].quantization.scale) for name in node.inputs[1:]]  # type: ignore[union-attr]
        for node in graph.nodes[:2]
    )
    assert dense == {"channel": [6, 6]}.get(kernel_scales, [1, 1])
    assert depthwise == ([1, 1] if kernel_scales in ONE_SCALE else [6, 6])


@pytest.mark.parametrize(("kernel_scales", "count"), [("all-tensor", 6), ("one", 1)])
def test_how_many_scales_a_kernel_of_four_bits_has(kernel_scales: str, count: int) -> None:
    b = GraphBuilder((1, 4, 4, 16))
    logits = b.conv2d(b.input, random(6, 1, 1, 16), random(6))
    graph = quantized(b, logits, kernel_scales=kernel_scales, pointwise_bits=4)
    _, kernel, bias = (graph.values[name].quantization for name in graph.nodes[0].inputs)
    assert kernel is not None and bias is not None
    assert len(kernel.scale) == count
    if count == 1:  # LiteRT's own kernel refuses any other bias scale
        source = graph.values[graph.input].quantization
        assert source is not None
        assert bias.scale == pytest.approx(source.scale * kernel.scale)


@pytest.mark.parametrize(
    "choice", [{"kernel_scales": "row"}, {"pointwise_bits": 5}, {"kernel_scales": None}]
)
def test_an_unknown_choice(choice: dict[str, object]) -> None:
    b = GraphBuilder((1, 4, 4, 1))
    with pytest.raises(InputError, match=f"must be .* got {next(iter(choice.values()))!r}"):
        quantized(b, b.conv2d(b.input, random(1, 1, 1, 1), random(1)), **choice)


@settings(deadline=None, max_examples=60)
@given(st.floats(-50, 0), st.floats(0, 50), st.sampled_from([0, 1, 2, 4]))
def test_training_s_grid_is_the_file_s(low: float, high: float, steps: int) -> None:
    low, high = np.float32(low), np.float32(high)
    made = asymmetric(float(low), float(high), steps)
    scale, zero = grid(torch.tensor(low), torch.tensor(high), steps)
    # Where the real ratio lies between two steps, float32 and float64 may part by one.
    ratio = float(np.log2(made.scale[0] / float(scale)))
    assert abs(ratio) < 1e-5 or (steps and abs(abs(ratio) - 1 / steps) < 1e-5)
    unit = ZERO_POINT_UNIT if steps else 1
    if abs(ratio) < 1e-5:
        assert abs(int(made.zero_point[0]) - float(zero)) in (0, unit)
    assert made.zero_point[0] % unit == 0 or made.zero_point[0] == 127
    if steps:
        octaves = np.log2(float(made.scale[0])) * steps
        assert octaves == pytest.approx(round(octaves), abs=1e-4)


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("levels", [7, 127])
@pytest.mark.parametrize("axis", [0, None])
def test_training_s_kernel_is_the_file_s(axis: int | None, levels: int, steps: int) -> None:
    kernel = random(5, 1, 1, 24)
    values, quantization = symmetric(kernel, axis, 0.0, levels, steps)
    scale = quantization.scale.reshape(-1, 1, 1, 1)
    trained = kernel_on_grid(torch.from_numpy(kernel), axis, levels, steps).numpy()
    assert np.abs(values).max() <= levels
    assert np.allclose(values * scale, trained, atol=1e-6)
    assert len(quantization.scale) == (1 if axis is None else 5)


def test_biases_share_one_scale_where_a_kernel_has_one() -> None:
    b = GraphBuilder((1, 4, 4, 4))
    x = b.conv2d(b.input, random(4, 3, 3, 4), random(4))
    graph = quantized(b, b.conv2d(x, random(4, 3, 3, 4), random(4)), kernel_scales="all-tensor")
    biases = [value for value in graph.constants() if value.dtype == "int32"]
    assert [value.quantization.scale.tolist() for value in biases] == [[1.0], [1.0]]  # type: ignore[union-attr]
    results = [run(graph, kernels) for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF)]
    # Two multipliers of different rounding, on steps of the logit that are several of these.
    assert np.abs(results[0] - results[1]).max() <= 8
    assert len(np.unique(results[0])) > 5
