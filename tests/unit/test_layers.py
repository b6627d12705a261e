"""The building blocks against the definitions they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from egeunet.model.layers import DILATIONS, GAB, GHPA, ChannelLayerNorm, resize


def assert_close(ours: Tensor, theirs: Tensor, name: str, tolerance: float = 1e-6) -> None:
    difference = (ours - theirs).abs()
    worst, mean = difference.max().item(), difference.mean().item()
    assert worst <= tolerance, f"{name}: max difference {worst:.3g}, mean {mean:.3g}"


def randomized(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter random, so that none hides behind its initial one or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def naive_resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) -> (height, width), bilinear, corner pixels on corner pixels."""
    result = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = row * (x.shape[0] - 1) / (height - 1) if height > 1 else 0.0
            z = column * (x.shape[1] - 1) / (width - 1) if width > 1 else 0.0
            y0, z0 = int(y), int(z)
            y1, z1 = min(y0 + 1, x.shape[0] - 1), min(z0 + 1, x.shape[1] - 1)
            top = x[y0, z0] * (1 - (z - z0)) + x[y0, z1] * (z - z0)
            low = x[y1, z0] * (1 - (z - z0)) + x[y1, z1] * (z - z0)
            result[row, column] = top * (1 - (y - y0)) + low * (y - y0)
    return result


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))
def test_resize_puts_corners_on_corners(h: int, w: int, height: int, width: int) -> None:
    x = np.random.default_rng([h, w]).normal(size=(h, w))
    ours = resize(torch.from_numpy(x)[None, None], (height, width))[0, 0]
    assert_close(ours, torch.from_numpy(naive_resize(x, height, width)), "resize")


def test_channel_layer_norm_is_layer_norm_of_each_pixel() -> None:
    norm = randomized(ChannelLayerNorm(12))
    x = 5 * torch.randn(2, 12, 3, 5, generator=torch.Generator().manual_seed(1)) + 3
    assert isinstance(norm, ChannelLayerNorm)
    theirs = F.layer_norm(x.permute(0, 2, 3, 1), (12,), norm.weight, norm.bias, eps=1e-6)
    assert_close(norm(x), theirs.permute(0, 3, 1, 2), "norm", 1e-5)


def test_channel_layer_norm_of_a_constant_pixel_is_its_bias() -> None:
    norm = randomized(ChannelLayerNorm(8))
    assert_close(
        norm(torch.full((1, 8, 2, 2), 7.0)),
        norm.get_parameter("bias")[:, None, None].expand(1, 8, 2, 2),
        "norm",
    )


def naive_ghpa(block: GHPA, x: Tensor) -> Tensor:
    """As the paper's code writes it: the feature map is permuted, not the gates."""
    x1, x2, x3, x4 = block.norm1(x).chunk(4, dim=1)
    x1 = x1 * block.conv_xy(resize(block.params_xy, x1.shape[2:]))
    x2 = x2.permute(0, 3, 1, 2)  # (B, W, c, H)
    x2 = x2 * block.conv_zx(resize(block.params_zx, x2.shape[2:])[0])[None]
    x2 = x2.permute(0, 2, 3, 1)
    x3 = x3.permute(0, 2, 1, 3)  # (B, H, c, W)
    x3 = x3 * block.conv_zy(resize(block.params_zy, x3.shape[2:])[0])[None]
    x3 = x3.permute(0, 2, 1, 3)
    return block.ldw(block.norm2(torch.cat((x1, x2, x3, block.dw(x4)), dim=1)))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 10), (11, 3), (1, 1)])
def test_ghpa_is_the_permuted_form(height: int, width: int) -> None:
    block = randomized(GHPA(12, 8))
    assert isinstance(block, GHPA)
    x = torch.randn(2, 12, height, width, generator=torch.Generator().manual_seed(2))
    ours = block(x)
    assert ours.shape == (2, 8, height, width)
    scale = ours.abs().max().item()
    assert_close(ours, naive_ghpa(block, x), "GHPA", 1e-6 * scale)


def test_gates_broadcast_over_the_axis_that_they_do_not_see() -> None:
    xy, zx, zy = GHPA(16, 8).gates(5, 9)
    assert (xy.shape, zx.shape, zy.shape) == ((1, 4, 5, 9), (1, 4, 5, 1), (1, 4, 1, 9))


@pytest.mark.parametrize("use_mask", [True, False])
def test_each_group_of_a_bridge_reaches_as_far_as_its_dilation(use_mask: bool) -> None:
    bridge = randomized(GAB(12, 8, use_mask=use_mask))
    generator = torch.Generator().manual_seed(3)
    deep = torch.randn(1, 12, 9, 9, generator=generator)
    skip = torch.randn(1, 8, 17, 17, generator=generator)
    mask = torch.randn(1, 1, 17, 17, generator=generator) if use_mask else None
    before = bridge(deep, skip, mask)
    assert before.shape == skip.shape
    for group, dilation in enumerate(DILATIONS):
        changed = skip.clone()
        changed[0, 2 * group, 8, 8] += 1.0  # the first of this group's two channels
        moved = (bridge(deep, changed, mask) != before)[0].any(0).nonzero()
        reach = (-dilation, 0, dilation)
        taps = {(8 + dy, 8 + dx) for dy in reach for dx in reach}
        assert {(int(y), int(x)) for y, x in moved} == taps, f"group {group}"


def test_the_mask_reaches_every_group() -> None:
    bridge = randomized(GAB(12, 8))
    generator = torch.Generator().manual_seed(4)
    deep, skip = (torch.randn(1, c, 17, 17, generator=generator) for c in (12, 8))
    mask = torch.randn(1, 1, 17, 17, generator=generator)
    changed = mask.clone()
    changed[0, 0, 8, 8] += 1.0
    moved = (bridge(deep, skip, changed) != bridge(deep, skip, mask))[0].any(0).nonzero()
    taps = {(8 + i * d, 8 + j * d) for d in DILATIONS for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert {(int(y), int(x)) for y, x in moved} == taps
