"""The histogram that widens: nothing is lost, whatever the order and the scale of values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.quantize.histogram import BINS, Histogram

pieces = st.lists(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20),
    min_size=1,
    max_size=5,
)


def histogram(parts: list[list[float]]) -> Histogram:
    found = Histogram()
    for part in parts:
        found.add(torch.tensor(part))
    return found


@settings(deadline=None, max_examples=60)
@given(parts=pieces)
def test_every_value_is_counted_once_and_in_its_bin(parts: list[list[float]]) -> None:
    found = histogram(parts)
    values = np.array([value for part in parts for value in part])
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.counts.sum() == len(values)
    edges = found.edges()
    assert edges[BINS] == 0 and edges[0] <= values.min() and values.max() <= edges[-1]
    for upto in range(1, len(edges), 257):
        below = found.counts[:upto].sum()
        slack = 1e-3 * found.width  # torch.histc places values by float32 arithmetic
        assert (values < edges[upto] - slack).sum() <= below <= (values < edges[upto] + slack).sum()


@settings(deadline=None, max_examples=30)
@given(peak=st.floats(2.0**-100, 2.0**99), sign=st.sampled_from([-1, 1]))
def test_the_greater_side_fills_half_of_its_bins(peak: float, sign: int) -> None:
    found = histogram([[1e-3 * peak], [sign * peak]])
    used = np.abs(np.flatnonzero(found.counts) - BINS).max()
    assert used >= BINS // 2 - 1


def test_quantiles_of_an_even_distribution() -> None:
    found = histogram([np.linspace(-1, 3, 40_000).tolist()])
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert found.quantile(share) == pytest.approx(-1 + 4 * share, abs=2 * found.width)
    assert (found.quantile(0), found.quantile(1)) == (-1, 3)


def test_zeros_only_and_then_more() -> None:
    found = histogram([[0.0, 0.0]])
    assert found.quantile(0.3) == 0
    found.add(torch.tensor([8.0]))
    assert found.counts.sum() == 3 and found.counts[BINS] == 2 and found.quantile(1) == 8
