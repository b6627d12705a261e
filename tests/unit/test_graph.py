"""The graph: shapes, constants, counts; what a wrong quantization is told."""

from __future__ import annotations

import numpy as np
import pytest

from egeunet.export.graph import GraphBuilder, Quantization

ONES = np.ones((4,), np.float32)


def test_shapes_follow_the_operators() -> None:
    b = GraphBuilder((1, 6, 8, 4))
    kernel = np.zeros((7, 3, 3, 4), np.float32)
    assert b.shape(b.conv2d(b.input, kernel, np.zeros(7, np.float32))) == (1, 6, 8, 7)
    assert b.shape(b.depthwise_conv2d(b.input, np.zeros((1, 3, 3, 4), np.float32), ONES, 5)) == (
        1, 6, 8, 4,
    )  # fmt: skip
    assert b.shape(b.concat([b.input, b.slice(b.input, 1, 3)])) == (1, 6, 8, 7)
    assert b.shape(b.mean(b.input, (1, 2))) == (1, 1, 1, 4)
    assert b.shape(b.mean(b.input, (3,))) == (1, 6, 8, 1)
    assert b.shape(b.max_pool(b.input)) == (1, 3, 4, 4)
    assert b.shape(b.resize(b.input, 5, 9)) == (1, 5, 9, 4)
    assert b.shape(b.sub(b.mean(b.input, (1, 2)), b.input)) == (1, 6, 8, 4)


def test_a_resize_to_the_same_size_is_nothing() -> None:
    b = GraphBuilder((1, 6, 8, 4))
    assert b.resize(b.input, 6, 8) == b.input
    assert b.nodes == []


def test_constants_and_counts() -> None:
    b = GraphBuilder((1, 2, 2, 4))
    b.constant(np.zeros(1000, np.float32))  # nobody reads it
    shared = b.constant(ONES)
    b.scope = "here"
    graph = b.finish(b.elementwise("gelu", b.mul(b.add(b.input, shared), shared)))
    assert graph.operators() == {"add": 1, "gelu": 1, "mul": 1}
    assert [value.name for value in graph.constants()] == [shared]
    assert {node.scope for node in graph.nodes} == {"here"}
    assert graph.weight_bytes() == 16


def test_equal_constants_weigh_once() -> None:
    b = GraphBuilder((1, 2, 2, 4))
    x = b.add(b.add(b.input, b.constant(ONES)), b.constant(ONES.copy()))
    graph = b.finish(b.mul(x, b.constant(2 * ONES)))
    assert len(graph.constants()) == 3
    assert graph.weight_bytes() == 32


def test_type_and_quantization_go_with_a_value() -> None:
    b = GraphBuilder((1, 2, 2, 4))
    scale = Quantization.per_tensor(0.5, -3)
    name = b.typed(b.constant(np.zeros(4, np.int8)), "int8", scale)
    assert (b.values[name].dtype, b.values[name].quantization) == ("int8", scale)
    copied = b.values[b.constant(np.zeros(4, np.int8), like=b.values[name])]
    assert copied.quantization == scale and copied.dtype == "int8"


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_are_positive_numbers(scale: float) -> None:
    with pytest.raises(ValueError, match="finite and positive"):
        Quantization.per_tensor(scale, 0)


def test_scale_and_zero_point_go_together() -> None:
    with pytest.raises(ValueError, match="zero point"):
        Quantization(np.ones(3, np.float32), np.zeros(2, np.int64))
