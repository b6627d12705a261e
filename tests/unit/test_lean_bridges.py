"""The rewrites of a Group Aggregation Bridge in export/lean.py against PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egeunet.export.graph import Graph
from egeunet.export.lean import LeanTranslator
from egeunet.model.layers import GAB, ChannelLayerNorm, resize

_PATH = Path(__file__).parents[1] / "exactness.py"
_SPEC = importlib.util.spec_from_file_location("exactness", _PATH)
assert _SPEC is not None and _SPEC.loader is not None
exactness = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(exactness)

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
    monkeypatch.setattr("egeunet.export.lean._GATHER_PIXELS", {"speed": 0 if gather else 10**9})
    inputs = Inputs(BRIDGES["x2"], mask, gamma)
    graph = inputs.graph(lambda t, *parts: t.bridge(*parts))
    assert_equal(graph, noise(*inputs.shape), lambda i: double(inputs.gab)(*inputs.exact(i)))
    # Nothing but the convolution behind the tail's normalization.
    *_, scaled, last = graph.nodes
    assert (scaled.op, last.op) == ("mul", "conv2d") and last.inputs[0] == scaled.output


@pytest.mark.parametrize("gather", [True, False], ids=["gathered", "joined"])
@every_bridge
@masked
def test_bridges_of_every_shape(
    bridge: Bridge, mask: bool, gather: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egeunet.export.lean._GATHER_PIXELS", {"speed": 0 if gather else 10**9})
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
