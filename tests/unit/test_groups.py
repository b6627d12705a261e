"""Kernels that gather groups of channels and spread what was gathered."""

from __future__ import annotations

import numpy as np
import pytest

from egeunet.export.groups import gather_groups, spread_groups


def test_gather_then_spread_averages_each_group() -> None:
    gather, spread = gather_groups(6, 3)[:, 0, 0], spread_groups(6, 3)[:, 0, 0]
    assert (spread @ gather @ np.array([1.0, 3, 5, 7, 2, 4])).tolist() == [2, 2, 6, 6, 3, 3]


@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (8, 4), (20, 4), (68, 4), (4, 4)])
def test_shapes_and_inverse(channels: int, groups: int) -> None:
    gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
    assert gather.shape == (groups, 1, 1, channels) and spread.shape == (channels, 1, 1, groups)
    assert gather.dtype == spread.dtype == np.float32
    # What was spread is gathered again; 1 / size is rounded once and added up size times.
    there_and_back = gather[:, 0, 0] @ spread[:, 0, 0]
    assert np.abs(there_and_back - np.eye(groups)).max() <= channels / groups * 2.0**-24
