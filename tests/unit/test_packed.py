"""Cheaper arrangements of an int8 graph: the same numbers, by LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import integer_graphs
from egeunet.export.graph import GraphBuilder
from egeunet.quantize.packed import pack

random, quantized, run = integer_graphs.random, integer_graphs.quantized, integer_graphs.run


@pytest.mark.parametrize("kernel_scales", ["channel", "tensor"])
@pytest.mark.parametrize("outputs", [8, 5])
def test_pairs_of_pixels_give_the_same_bits(outputs: int, kernel_scales: str) -> None:
    b = GraphBuilder((1, 6, 10, 3))
    graph = quantized(
        b,
        b.conv2d(b.input, random(outputs, 3, 3, 3), random(outputs)),
        kernel_scales=kernel_scales,
    )
    packed = pack(graph)
    assert packed.operators() == {"conv2d": 1, "reshape": 2, "sigmoid": 1}
    shapes = [packed.values[node.inputs[0]].shape for node in packed.nodes if node.op == "conv2d"]
    assert shapes == [(1, 6, 5, 6)]
    assert len(np.unique(run(graph))) > 20
    assert np.array_equal(run(packed), run(graph))


@pytest.mark.parametrize("shape", [(1, 6, 9, 3), (1, 6, 10, 4)])
def test_odd_widths_and_full_lanes_stay_as_they_are(shape: tuple[int, ...]) -> None:
    b = GraphBuilder(shape)
    graph = quantized(b, b.conv2d(b.input, random(8, 3, 3, shape[3]), random(8)))
    assert pack(graph).operators() == graph.operators()


def test_a_resize_by_rows_and_columns_rounds_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egeunet.quantize.packed._PIXELS_BY_AXES", 100)
    b = GraphBuilder((1, 6, 5, 1))
    # Logits of -3..3, whatever was drawn before.
    kernel, bias = np.full((1, 1, 1, 1), 6, np.float32), np.full(1, -3, np.float32)
    graph = quantized(b, b.resize(b.conv2d(b.input, kernel, bias), 11, 13))
    packed = pack(graph)
    assert packed.operators()["transpose"] == 2
    assert packed.values[packed.output].shape == (1, 11, 13, 1)
    difference = np.abs(run(packed) - run(graph))
    # The probability's steps are finer than the logit's, 16 / 255, by a factor of four at most.
    assert difference.max() <= 5
    assert difference.mean() < 2
    assert len(np.unique(run(graph))) > 10


def test_a_relu_is_done_by_what_is_before_it() -> None:
    b = GraphBuilder((1, 8, 8, 4))
    x = b.elementwise("relu", b.max_pool(b.conv2d(b.input, random(6, 3, 3, 4), random(6))))
    x = b.elementwise("relu", b.add(x, b.constant(random(1, 1, 1, 6))))
    x = b.elementwise("relu", b.depthwise_conv2d(x, random(1, 3, 3, 6), random(6)))
    graph = quantized(b, x)
    packed = pack(graph)
    assert graph.operators()["relu"] == 3
    assert "relu" not in packed.operators()
    assert np.array_equal(run(packed), run(graph))
    assert len(np.unique(run(graph))) > 5


def test_a_relu_stays_where_somebody_else_reads_what_is_before_it() -> None:
    b = GraphBuilder((1, 6, 6, 4))
    x = b.conv2d(b.input, random(6, 3, 3, 4), random(6))
    graph = quantized(b, b.add(x, b.elementwise("relu", x)))
    assert pack(graph).operators() == graph.operators()
    assert np.array_equal(run(pack(graph)), run(graph))


def test_nothing_is_added_for_speed_where_size_counts() -> None:
    b = GraphBuilder((1, 6, 10, 3))
    x = b.resize(b.conv2d(b.input, random(1, 3, 3, 3), random(1)), 12, 20)
    graph = quantized(b, x)
    assert pack(graph, "size").operators() == graph.operators()
    assert len(pack(graph).nodes) > len(graph.nodes)


@pytest.mark.parametrize("dilation", [2, 5])
def test_a_dilated_convolution_has_a_name_of_its_own_and_is_torch_s(dilation: int) -> None:
    b = GraphBuilder((1, 12, 14, 4))
    kernel, bias = random(3, 3, 3, 4), random(3)
    inputs = (b.input, b.constant(kernel), b.constant(bias))
    graph = quantized(b, b.add_node("conv2d", inputs, (1, 12, 14, 3), dilation=dilation))
    packed = pack(graph)
    assert packed.operators() == {"dilated_conv2d": 1, "sigmoid": 1}
    image = np.random.default_rng(1).integers(-128, 128, (1, 12, 14, 4))
    pixels = torch.tensor((image + 128) / 255, dtype=torch.float32).permute(0, 3, 1, 2)
    weight = torch.tensor(kernel).permute(0, 3, 1, 2)
    goal = nn.functional.conv2d(
        pixels, weight, torch.tensor(bias), padding=dilation, dilation=dilation
    )
    goal = torch.sigmoid(goal.clamp(-8, 8)).permute(0, 2, 3, 1)[0] * 256 - 128
    difference = np.abs(run(packed) - goal.numpy())
    assert difference.max() < 8
    assert difference.mean() < 3


def test_types_scales_and_ends_are_kept() -> None:
    b = GraphBuilder((1, 8, 8, 3))
    graph = quantized(b, b.conv2d(b.input, random(8, 3, 3, 3), random(8)))
    packed = pack(graph)
    for old, new in ((graph.input, packed.input), (graph.output, packed.output)):
        assert graph.values[old].dtype == packed.values[new].dtype
        assert graph.values[old].quantization == packed.values[new].quantization
    assert all(value.quantization is not None for value in packed.values.values())
