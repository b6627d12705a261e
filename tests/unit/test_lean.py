"""Every rewrite of export/lean.py against PyTorch; means in two steps: test_lean_means.py, of
bridges: test_lean_bridges.py, of whole networks: test_lean_network.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import exactness
from egeunet.export.graph import Graph
from egeunet.export.interpret import run_graph
from egeunet.export.lean import LeanTranslator
from egeunet.model.layers import GHPA, ChannelLayerNorm, resize

GAMMAS, randomized, double, noise = (
    exactness.GAMMAS, exactness.randomized, exactness.double, exactness.noise
)  # fmt: skip
graph_of, assert_equal = exactness.graph_of, exactness.assert_equal
every_gamma = pytest.mark.parametrize("gamma", GAMMAS.values(), ids=GAMMAS)
EPSILON = float(np.finfo(np.float32).eps)


def test_constants_of_the_norms_are_what_the_cases_say() -> None:
    weight = randomized(ChannelLayerNorm(8), [0.0, -0.3]).weight
    assert weight[:2].tolist() == [0, pytest.approx(-0.3)] and (weight[2:] < 0).any()


# --- sign absorption, and the affine behind the pool --------------------------------------


@every_gamma
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(8, 12, 3, padding=1), lambda: GHPA(8, 12)],
                         ids=["conv", "GHPA"])  # fmt: skip
def test_sign_absorption(make: Callable[[], nn.Module], gamma: list[float]) -> None:
    block, norm = randomized(make(), gamma), randomized(nn.GroupNorm(4, 12), gamma)
    graph = graph_of((10, 6, 8), lambda t, x: t.down(block, norm, x))
    exact = double(nn.Sequential(block, norm, nn.MaxPool2d(2), nn.GELU()))
    assert_equal(graph, noise(10, 6, 8), exact)
    (pool,) = [node for node in graph.nodes if node.op == "max_pool"]
    (scaled,) = [node for node in graph.nodes if pool.output in node.inputs]
    assert scaled.op == "mul" and graph.values[scaled.output].shape == (1, 5, 3, 12)


# --- centred, or by moments --------------------------------------------------------------

#: Side of the map, and whether it is what the first GroupNorm sees.
STATISTICS = {"small": (6, False), "first": (64, True), "moments": (64, False)}
every_way = pytest.mark.parametrize("way", STATISTICS)


def group_norm(norm: nn.GroupNorm, way: str) -> Graph:
    side, first = STATISTICS[way]
    channels = norm.num_channels
    ones = np.ones(channels, np.float32)

    def build(t: LeanTranslator, x: str) -> str:
        for _ in range(0 if first else 2):  # something between it and the picture
            x = t.b.mul(x, t.b.constant(ones))
        return t.group_affine(norm, x, x, ones)

    graph = graph_of((side, side, channels), build)
    # Means are of one step, 2, or of two; only moments are floored.
    assert graph.operators()["mean"] == (2 if side == 6 else 4)
    assert ("maximum" in graph.operators()) == (way == "moments")
    return graph


def map_of(way: str, channels: int) -> Tensor:
    side, _ = STATISTICS[way]
    return noise(side, side, channels)


@every_gamma
@every_way
@pytest.mark.parametrize("channels", [4, 20])
@pytest.mark.parametrize(("deviation", "offset"), [(1, 0), (30, 5), (1e-4, 0), (1, 3)])
def test_group_norm(
    channels: int, deviation: float, offset: float, gamma: list[float], way: str
) -> None:
    norm = randomized(nn.GroupNorm(4, channels), gamma)
    image = map_of(way, channels) * deviation + offset
    assert_equal(group_norm(norm, way), image, double(norm))


@every_way
@pytest.mark.parametrize("ratio", [10, 30, 100])
def test_moments_lose_the_square_of_mean_by_deviation_and_others_no_square(
    ratio: int, way: str
) -> None:
    norm = randomized(nn.GroupNorm(4, 8))
    lost = ratio**2 if way == "moments" else ratio
    assert_equal(group_norm(norm, way), map_of(way, 8) + ratio, double(norm), 2 * EPSILON * lost)


@every_way
@pytest.mark.parametrize("value", [0.0, 1e-3, 3.0, -77.7, 1e3, -1e6])
def test_group_norm_of_a_uniform_map(value: float, way: str) -> None:
    """All that is left is beta, and rounding of value over the root of epsilon."""
    norm = randomized(nn.GroupNorm(4, 8))
    graph, image = group_norm(norm, way), torch.full_like(map_of(way, 8)[:1], value)
    bound = 1e-6 + 4 * EPSILON * abs(value) / norm.eps**0.5 * float(norm.weight.abs().max())
    got = run_graph(graph, image)
    assert torch.isfinite(got).all()
    assert float((got - norm.bias).abs().max()) <= bound


@pytest.mark.parametrize("way", ["first", "moments"])
def test_bias_left_to_the_norm(way: str) -> None:
    """As ONNX has it: the norm of x + bias, both flipped, where x is what there is."""
    norm, bias = randomized(nn.GroupNorm(4, 8)), np.linspace(-2, 3, 8, dtype=np.float32)
    sign = np.where(norm.weight.numpy() < 0, -1, 1).astype(np.float32)
    first = STATISTICS[way][1]

    def build(t: LeanTranslator, x: str) -> str:
        kernel = np.diag(sign).reshape(8, 1, 1, 8)
        x = x if first else t.b.max_pool(x)
        x = t.b.conv2d(x, kernel, np.zeros(8, np.float32))
        return t.group_affine(norm, x, x, sign, bias * sign)

    side = 64 if first else 128
    exact = double(norm)

    def want(x: Tensor) -> Tensor:
        return exact((x if first else F.max_pool2d(x, 2)) + torch.from_numpy(bias).view(-1, 1, 1))

    assert_equal(graph_of((side, side, 8), build), noise(side, side, 8), want)


# --- gamma folding -----------------------------------------------------------------------


@every_gamma
def test_gamma_folding(gamma: list[float]) -> None:
    norm = randomized(ChannelLayerNorm(8), gamma)
    handed_on: list[np.ndarray[Any, Any]] = []

    def build(t: LeanTranslator, x: str) -> str:
        normed, scale = t.scaled_norm(norm, x)
        handed_on.append(scale)
        return t.b.mul(normed, t.b.constant(scale))

    assert_equal(graph_of((4, 3, 8), build), noise(4, 3, 8), double(norm))
    # Not divided by what is zero or near it: there the LayerNorm stays whole.
    folded = float(norm.weight.abs().min()) > 1e-3
    assert folded == (gamma in (GAMMAS["random"], GAMMAS["positive"], GAMMAS["negative"]))
    assert np.array_equal(handed_on[0], norm.weight.numpy() if folded else np.ones(8, np.float32))


@every_gamma
@pytest.mark.parametrize("channels", [4, 8, 20])
def test_gamma_folding_into_gates_and_convolutions(channels: int, gamma: list[float]) -> None:
    """Both LayerNorms of a GHPA; its 3x3 convolutions pad with zeros, beside beta."""
    block = randomized(GHPA(channels, 12), gamma)
    graph = graph_of((6, 5, channels), lambda t, x: t.ghpa(block, x))
    assert_equal(graph, noise(6, 5, channels), double(block))


# --- broadcast by convolution ------------------------------------------------------------


@pytest.mark.parametrize("deviation", [1, 1e-4, 100])
@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (12, 4), (20, 4), (36, 4)])
def test_broadcast_by_convolution(channels: int, groups: int, deviation: float) -> None:
    gamma, eps = randomized(ChannelLayerNorm(channels)).weight, 1e-6
    graph = graph_of(
        (4, 3, channels), lambda t, x: t.times_deviation(x, groups, gamma.numpy(), eps)
    )

    def want(x: Tensor) -> Tensor:
        parts = [
            part / (part.pow(2).mean(1, keepdim=True) + eps).sqrt() for part in x.chunk(groups, 1)
        ]
        return torch.cat(parts, 1) * gamma.view(-1, 1, 1)

    assert_equal(graph, noise(4, 3, channels) * deviation, want)
    if groups > 1:  # all channels in both operands of every product: no broadcast along them
        products = [node.inputs for node in graph.nodes if node.op == "mul"]
        assert {graph.values[n].shape[3] for pair in products for n in pair} == {channels}


# --- the affine of an up stage, before the resize ----------------------------------------


@every_gamma
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(8, 12, 3, padding=1), lambda: GHPA(8, 12)],
                         ids=["conv", "GHPA"])  # fmt: skip
def test_up(make: Callable[[], nn.Module], scale: int, gamma: list[float]) -> None:
    block, norm = randomized(make(), gamma), randomized(nn.GroupNorm(4, 12), gamma)
    graph = graph_of((5, 3, 8), lambda t, x: t.up(block, norm, x, scale))
    exact = double(nn.Sequential(block, norm))

    def want(x: Tensor) -> Tensor:
        return F.gelu(resize(exact(x), (5 * scale, 3 * scale)))

    assert_equal(graph, noise(5, 3, 8), want)
    order = [node.op for node in graph.nodes]
    assert order[-3:] == (["add", "resize", "gelu"] if scale == 2 else ["mul", "add", "gelu"])


# --- gates that are made when the file is run --------------------------------------------


@every_gamma
@pytest.mark.parametrize(("side", "unfolded"), [(8, False), (11, False), (12, True), (16, True)])
def test_unfolded_gates(side: int, unfolded: bool, gamma: list[float]) -> None:
    block = randomized(GHPA(8, 12), gamma)
    graph = graph_of((side, side, 8), lambda t, x: t.ghpa(block, x), "size")
    assert_equal(graph, noise(side, side, 8), double(block))
    resizes = [graph.values[node.output].shape for node in graph.nodes if node.op == "resize"]
    assert resizes == ([(1, side, side, 2)] if unfolded else [])
    stored = graph_of((side, side, 8), lambda t, x: t.ghpa(block, x), "speed")
    assert "resize" not in stored.operators()
    gate, grid = 4 * side * side * 2, 4 * (8 * 8 * 2 + 2 * 9 + 2 + 4 + 2)
    if unfolded:  # the grid and two convolutions instead of the map
        assert stored.weight_bytes() - graph.weight_bytes() == gate - grid
