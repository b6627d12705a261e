"""Resizing: exact areas for masks, antialiasing for pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.model.data.resize import covered_area, resize_image, resize_mask
from egeunet.model.errors import InputError

IMAGE = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
BLOB = np.hypot(*np.mgrid[-12:12, -20:20]) < 8  # bool (24, 40)


def test_an_image_of_that_size_stays_the_same_object() -> None:
    assert resize_image(IMAGE, 24, 40) is IMAGE
    assert resize_mask(BLOB, 24, 40) is BLOB


def test_image_is_squashed_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_image(stripes, 16, 8)
    assert small.shape == (16, 8, 3)
    assert np.abs(small[:, 1:-1].astype(int) - 127).max() <= 2  # no alias: all gray


def test_half_covered_pixels_are_lesion() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[:, 0] = True  # half of each pixel of the left column
    mask[0, 2] = True  # a quarter of the upper right one
    np.testing.assert_array_equal(resize_mask(mask, 2, 2), [[True, False], [True, False]])


@settings(deadline=None, max_examples=60)
@given(
    *[st.integers(1, 40) for _ in range(4)],
    st.integers(0, 2**32 - 1),
)
def test_covered_area_keeps_the_mean(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    share = covered_area(mask, new_height, new_width)
    assert share.shape == (new_height, new_width)
    assert share.min() >= -1e-12
    assert share.max() <= 1 + 1e-12
    assert abs(share.mean() - mask.mean()) < 1e-12
    np.testing.assert_allclose(covered_area(~mask, new_height, new_width), 1 - share, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_whole_factors_agree_with_block_means(
    height: int, width: int, factor: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height * factor, width * factor)) < 0.5
    blocks = mask.reshape(height, factor, width, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(covered_area(mask, height, width), blocks, atol=1e-12)
    np.testing.assert_array_equal(resize_mask(mask, height, width), blocks >= 0.5)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (20_000, 5)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]}"):
        resize_image(IMAGE, *size)
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]}"):
        resize_mask(BLOB, *size)


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="float64"):
        resize_image(IMAGE / 255, 8, 8)
    with pytest.raises(InputError, match="bool"):
        resize_mask(BLOB * 255, 8, 8)  # type: ignore[arg-type]
