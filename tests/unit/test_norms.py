"""LayerNorm and GroupNorm in primitive operators against PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.interpret import run_graph
from egeunet.export.norms import gather_groups, lower_norms, spread_groups

#: Of one norm whose output has unit variance; float32 sums in another order.
TOLERANCE = 2e-5
PRIMITIVE = {
    "conv2d", "depthwise_conv2d", "add", "sub", "mul", "concat", "slice", "mean", "rsqrt",
    "gelu", "sigmoid", "max_pool", "resize",
}  # fmt: skip


def norm_graph(kind: str, channels: int) -> Graph:
    rng = np.random.default_rng(channels)
    gamma, beta = rng.normal(size=(2, channels)).astype(np.float32)
    b = GraphBuilder((1, 7, 5, channels))
    b.scope = "encoder1"
    if kind == "layer_norm":
        return b.finish(b.layer_norm(b.input, gamma, beta, 1e-6))
    return b.finish(b.group_norm(b.input, gamma, beta, 4, 1e-5))


@pytest.mark.parametrize("as_convolution", [False, True], ids=["mul and add", "convolution"])
@pytest.mark.parametrize(
    ("kind", "channels"),
    [("layer_norm", 3), ("layer_norm", 5), ("layer_norm", 36), ("group_norm", 4),
     ("group_norm", 8), ("group_norm", 20)],
)  # fmt: skip
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (30.0, 5.0), (1e-4, 0.0)])
def test_equal(kind: str, channels: int, as_convolution: bool, scale: float, offset: float) -> None:
    graph = norm_graph(kind, channels)
    lowered = lower_norms(graph, affine_as_convolution=as_convolution)
    assert set(lowered.operators()) <= PRIMITIVE
    noise = np.random.default_rng(1).normal(size=(2, 7, 5, channels))
    image = torch.from_numpy((scale * noise + offset).astype(np.float32))
    want = run_graph(graph, image)
    difference = (run_graph(lowered, image) - want).abs()
    peak = float(want.abs().max())
    assert float(difference.max()) <= TOLERANCE * max(1.0, peak), (
        f"{kind}: max {difference.max()}, mean {difference.mean()}, peak {peak}"
    )


@pytest.mark.parametrize("kind", ["layer_norm", "group_norm"])
def test_a_constant_image_stays_finite(kind: str) -> None:
    graph = norm_graph(kind, 8)
    beta = graph.values[graph.nodes[0].inputs[2]].data
    # All that is left is beta, and the last bit of the mean over the root of epsilon.
    got = run_graph(lower_norms(graph), torch.full((1, 7, 5, 8), 3.0)).numpy()
    assert np.abs(got - beta).max() <= 1e-3


@pytest.mark.parametrize(
    ("kind", "as_convolution", "operators"),
    [
        ("layer_norm", False, {"add": 1, "conv2d": 1, "mean": 1, "mul": 3, "rsqrt": 1, "sub": 1}),
        ("layer_norm", True,
         {"conv2d": 1, "depthwise_conv2d": 1, "mean": 1, "mul": 2, "rsqrt": 1, "sub": 1}),
        ("group_norm", True, {"add": 1, "conv2d": 4, "mean": 2, "mul": 2, "rsqrt": 1, "sub": 1}),
    ],
)  # fmt: skip
def test_operators_and_scope(kind: str, as_convolution: bool, operators: dict[str, int]) -> None:
    lowered = lower_norms(norm_graph(kind, 8), affine_as_convolution=as_convolution)
    assert lowered.operators() == operators
    assert {node.scope for node in lowered.nodes} == {f"encoder1/{kind}"}


def test_gather_then_spread_averages_each_group() -> None:
    gather, spread = gather_groups(6, 3)[:, 0, 0], spread_groups(6, 3)[:, 0, 0]
    assert (spread @ gather @ np.array([1.0, 3, 5, 7, 2, 4])).tolist() == [2, 2, 6, 6, 3, 3]
