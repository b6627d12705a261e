"""Rounding to the grids of integers, as training computes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.quantize.trained_graph import grid, kernel_on_grid, on_grid


@settings(deadline=None, max_examples=40)
@given(st.floats(-50, 0), st.floats(0, 50), st.floats(-60, 60))
def test_on_grid_rounds_within_and_clips_outside(low: float, high: float, x: float) -> None:
    bounds = torch.tensor(low), torch.tensor(high)
    scale, zero = (float(part) for part in grid(*bounds))
    once = on_grid(torch.tensor([x]), *bounds)
    assert torch.allclose(on_grid(once, *bounds), once)
    least, most = (-128 - zero) * scale, (127 - zero) * scale
    assert abs(float(once) - np.clip(x, least, most)) <= scale / 2 * 1.001 + 1e-6
    assert float(on_grid(torch.zeros(1), *bounds)) == 0  # what padding puts in


@pytest.mark.parametrize("axis", [0, 3, None])
def test_kernels_are_rounded_per_channel_or_whole(axis: int | None) -> None:
    kernel = torch.randn(4, 3, 3, 5) * torch.logspace(0, 2, 4)[:, None, None, None]
    result = kernel_on_grid(kernel, axis)
    others = [i for i in range(4) if i != axis]
    step = kernel.abs().amax(others, keepdim=True) / 127
    assert ((result - kernel).abs() <= step / 2 * 1.001).all()
    levels = result / step
    assert torch.allclose(levels, levels.round(), atol=1e-3)
