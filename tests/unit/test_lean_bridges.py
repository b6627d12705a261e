"""The rewrites of a Group Aggregation Bridge in export/lean_bridge.py against PyTorch."""

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
from egeunet.model.layers import GAB, ChannelLayerNorm, resize

GAMMAS, randomized, double, noise = (
    exactness.GAMMAS, exactness.randomized, exactness.double, exactness.noise
)  # fmt: skip
graph_of, assert_equal = exactness.graph_of, exactness.assert_equal
every_gamma = pytest.mark.parametrize("gamma", GAMMAS.values(), ids=GAMMAS)

#: (height, width) of the skip, channels of deep and skip, factor of the resize.
BRIDGES = {"x2": (8, 6, 12, 8, 2), "same size": (4, 6, 16, 12, 1), "x4": (8, 12, 4, 20, 4)}
every_bridge = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)
masked = pytest.mark.parametrize("mask", [True, False], ids=["mask", "no mask"])
Bridge = tuple[int, int, int, int, int]


class Inputs:
    """One image that holds a GAB's inputs side by side: skip, decoder map, deep (by pooling)."""

    def __init__(self, bridge: Bridge, mask: bool, gamma: list[float] | None = None) -> None:
        height, width, deep, self.channels, self.factor = bridge
        self.shape = height, width, 2 * self.channels + deep
        self.gab = randomized(GAB(deep, self.channels, use_mask=mask), gamma)
        self.mask = randomized(nn.Conv2d(self.channels, 1, 1)) if mask else None

    def graph(self, build: Callable[..., str]) -> Graph:
        """``build`` gets the translator and what ``bridge`` takes."""

        def parted(t: LeanTranslator, x: str) -> str:
            c = self.channels
            deep = t.b.slice(x, 2 * c, self.shape[2] - 2 * c)
            for _ in range(self.factor // 2):
                deep = t.b.max_pool(deep)
            return build(t, self.gab, deep, t.b.slice(x, 0, c), t.b.slice(x, c, c), self.mask)

        return graph_of(self.shape, parted)

    def exact(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        c = self.channels
        skip, x, deep = image[:, :c], image[:, c : 2 * c], image[:, 2 * c :]
        guide = double(self.mask)(x) if self.mask is not None else None
        return F.max_pool2d(deep, self.factor), skip, guide

    def joined(self, image: Tensor, slot: int) -> Tensor:
        """What the four group LayerNorms get, minus its mean, filled with zeros to ``slot``."""
        deep, skip, guide = self.exact(image)
        deep = resize(double(self.gab.pre_project)(deep), skip.shape[2:])
        groups = zip(deep.chunk(4, 1), skip.chunk(4, 1), strict=True)
        joined = [torch.cat((*p, *([] if guide is None else [guide])), 1) for p in groups]
        centred = [group - group.mean(1, keepdim=True) for group in joined]
        return torch.cat([F.pad(g, (0, 0, 0, 0, 0, slot - g.shape[1])) for g in centred], 1)


@pytest.mark.parametrize("filled", [0, 1, 3])
@every_bridge
@masked
def test_gather_project_centre(bridge: Bridge, mask: bool, filled: int) -> None:
    inputs = Inputs(bridge, mask)
    slot = inputs.channels // 2 + mask + filled
    graph = inputs.graph(lambda t, *parts: t.gather_project_centre(*parts, slot))
    assert_equal(graph, noise(*inputs.shape), lambda image: inputs.joined(image, slot))
    operators = graph.operators()
    assert not {"concat", "sub", "mean"} & set(operators)
    assert operators["conv2d"] == 2 + mask and operators["slice"] == 3


@every_bridge
@masked
def test_joined_and_centred(bridge: Bridge, mask: bool) -> None:
    """What small maps get instead."""
    inputs = Inputs(bridge, mask)
    slot = inputs.channels // 2 + mask
    graph = inputs.graph(lambda t, *parts: t.centred(t.joined(*parts), 4))
    assert_equal(graph, noise(*inputs.shape), lambda image: inputs.joined(image, slot))


@pytest.mark.parametrize("gather", [True, False], ids=["gathered", "joined"])
@every_gamma
@masked
def test_bridge_with_its_tail_affine_folded(
    mask: bool, gamma: list[float], gather: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "egeunet.export.lean_bridge._GATHER_PIXELS", {"speed": 0 if gather else 10**9}
    )
    inputs = Inputs(BRIDGES["x2"], mask, gamma)
    graph = inputs.graph(lambda t, *parts: t.bridge(*parts))
    assert_equal(graph, noise(*inputs.shape), lambda i: double(inputs.gab)(*inputs.exact(i)))
    # Its result is projected first, then divided by the deviation: no centred map.
    *_, projected, scaled, last = graph.nodes
    assert [projected.op, scaled.op, last.op] == ["conv2d", "mul", "add"]
    assert projected.output in scaled.inputs and graph.values[last.inputs[1]].data is not None
    assert "sub" not in graph.operators() or not gather or graph.operators()["sub"] == 1


@pytest.mark.parametrize("gather", [True, False], ids=["gathered", "joined"])
@pytest.mark.parametrize("classes", [1, 2])
@every_gamma
@masked
def test_bridge_behind_the_final_convolution(
    mask: bool, gamma: list[float], classes: int, gather: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "egeunet.export.lean_bridge._GATHER_PIXELS", {"speed": 0 if gather else 10**9}
    )
    inputs = Inputs(BRIDGES["x2"], mask, gamma)
    final = randomized(nn.Conv2d(inputs.channels, classes, 1))

    def build(t: LeanTranslator, module: GAB, *parts: Any) -> str:
        return t.bridge_logits(module, final, *parts)

    def want(image: Tensor) -> Tensor:
        linear = double(final).weight[:, :, 0, 0]
        return torch.einsum("oc,nchw->nohw", linear, double(inputs.gab)(*inputs.exact(image)))

    graph = inputs.graph(build)
    assert_equal(graph, noise(*inputs.shape), want)
    # One class: no map of all groups' results.
    group = inputs.channels // 2 + mask
    widths = [graph.values[n.output].shape[3] for n in graph.nodes if n.op == "concat"]
    wide = [width for width in widths if width >= 4 * group]
    assert len(wide) == (classes > 1) + (not gather)


@pytest.mark.parametrize("mean", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("classes", [1, 3])
def test_moments_of_the_last_norm(classes: int, mean: float) -> None:
    """E[x^2] - E[x]^2 loses the square of mean by deviation and no more, with fill and without."""
    real = np.array([1, 1, 1, 1, 0], np.float32)
    norm, conv = randomized(ChannelLayerNorm(8)), randomized(nn.Conv2d(8, classes, 1))
    kernel, bias = conv.weight.numpy().transpose(0, 2, 3, 1).copy(), conv.bias.numpy()

    def build(t: LeanTranslator, x: str) -> str:
        parts = t.b.split(t.b.mul(x, t.b.constant(np.tile(real, 2))), 2)
        if classes == 1:
            return t.summed_tail(norm, parts, real, kernel[0, 0, 0], bias)
        return t.tail(norm, parts, np.tile(real, 2), kernel, bias)

    def want(x: Tensor) -> Tensor:
        return double(nn.Sequential(norm, conv))(x[:, [0, 1, 2, 3, 5, 6, 7, 8]])

    bound = max(exactness.ROUNDED, 8 * float(np.finfo(np.float32).eps) * mean**2)
    assert_equal(graph_of((5, 4, 10), build), noise(5, 4, 10) + mean, want, bound)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e4])
def test_moments_of_equal_channels(value: float) -> None:
    """A deviation of nothing but rounding: the floor keeps it finite."""
    norm, conv = randomized(ChannelLayerNorm(8)), randomized(nn.Conv2d(8, 1, 1))

    def build(t: LeanTranslator, x: str) -> str:
        ones = np.ones(4, np.float32)
        weight, bias = conv.weight.numpy()[0, :, 0, 0], conv.bias.numpy()
        return t.summed_tail(norm, t.b.split(x, 2), ones, weight, bias)

    got = run_graph(graph_of((3, 2, 8), build), torch.full((1, 3, 2, 8), value))
    want = double(conv)(norm.bias.double().view(1, -1, 1, 1)).item()
    # Sums of eight equal numbers, centred, over the root of epsilon.
    bound = 1e-6 + 8 * float(np.finfo(np.float32).eps) * abs(value) / norm.eps**0.5 * 8
    assert torch.isfinite(got).all() and float((got - want).abs().max()) <= bound


@pytest.mark.parametrize("gather", [True, False], ids=["gathered", "joined"])
@every_bridge
@masked
def test_bridges_of_every_shape(
    bridge: Bridge, mask: bool, gather: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "egeunet.export.lean_bridge._GATHER_PIXELS", {"speed": 0 if gather else 10**9}
    )
    inputs = Inputs(bridge, mask)
    graph = inputs.graph(lambda t, *parts: t.bridge(*parts))
    assert_equal(graph, noise(*inputs.shape), lambda i: double(inputs.gab)(*inputs.exact(i)))


@pytest.mark.parametrize("sizes", [(3, 1), (5, 1), (6, 2), (9, 3)])
def test_filled_lanes_count_in_no_mean(sizes: tuple[int, int]) -> None:
    """Channels that fill up four runs: zeros, which change no mean and no deviation."""
    used, filled = sizes
    slot, eps = used + filled, 1e-6
    real = np.tile(np.arange(slot) < used, 4).astype(np.float32)
    gamma = randomized(ChannelLayerNorm(4 * slot)).weight.numpy() * real

    def build(t: LeanTranslator, x: str) -> str:
        x = t.b.mul(x, t.b.constant(real))
        return t.times_deviation(t.centred(x, 4, real), 4, gamma, eps, real)

    def want(x: Tensor) -> Tensor:
        parts = []
        for run, scale in zip(x.chunk(4, 1), torch.tensor(gamma).chunk(4), strict=True):
            normed = F.layer_norm(
                run[:, :used].movedim(1, 3), (used,), scale[:used].double(), eps=eps
            )
            parts.append(F.pad(normed.movedim(3, 1), (0, 0, 0, 0, 0, filled)))
        return torch.cat(parts, 1)

    assert_equal(graph_of((4, 3, 4 * slot), build), noise(4, 3, 4 * slot), want)


@pytest.mark.parametrize(
    ("shape", "repeated"), [((64, 16), True), ((16, 64), True), ((31, 33), False)]
)
def test_rows(shape: tuple[int, int], repeated: bool) -> None:
    """Vectors meet large maps as rows; the enlargement changes no bit of them."""
    vector = randomized(ChannelLayerNorm(5)).weight.numpy()

    def build(t: LeanTranslator, x: str) -> str:
        runtime = t.row(t.b.mean(x, (1, 2)), x)
        return t.b.mul(t.b.add(x, t.row(vector, x)), runtime)

    graph, image = graph_of((*shape, 5), build), noise(*shape, 5)
    want = (image + torch.from_numpy(vector)) * image.mean((1, 2), keepdim=True)
    assert torch.equal(run_graph(graph, image), want)
    rows = [graph.values[node.output].shape for node in graph.nodes if node.op == "resize"]
    assert rows == ([(1, 1, shape[1], 5)] * 2 if repeated else [])
