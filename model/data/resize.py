"""Resizing pictures and masks to the network's input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from egeunet.model.errors import InputError

#: No picture is scaled to a larger side than this.
MAX_SIDE = 16384


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Squash to (height, width), both axes on their own, antialiased bilinear (Pillow).

    Args:
        image: uint8 (H, W, 3).

    Returns:
        uint8 (height, width, 3); ``image`` itself where it has that size already.

    Raises:
        InputError: a side out of range, or not a uint8 RGB array.
    """
    check_sides(height, width)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized, dtype=np.uint8)


def resize_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Squash a mask: lesion where lesion covers at least half of the new pixel's area.

    Args:
        mask: bool (H, W).

    Returns:
        bool (height, width); ``mask`` itself where it has that size already.

    Raises:
        InputError: a side out of range, or not a bool (H, W) array.
    """
    if mask.shape == (height, width) and mask.dtype == np.bool_:
        return mask
    # Sums of exact fractions: allow for their rounding, so that one half counts as lesion.
    return covered_area(mask, height, width) >= 0.5 - 1e-9


def covered_area(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.float64]:
    """The exact share of lesion under each new pixel, (height, width), 0..1.

    Pillow's BOX filter takes whole source pixels only; here a source pixel which lies
    under two new ones counts for each by its share, so the mean stays the same.
    """
    check_sides(height, width)
    if mask.dtype != np.bool_ or mask.ndim != 2 or 0 in mask.shape:
        raise InputError(f"expected a bool (H, W) mask, got {mask.dtype} {mask.shape}")
    rows = _average_rows(mask, height)  # (height, W)
    return _average_rows(rows.T, width).T  # (height, width)


def _average_rows(
    values: NDArray[np.bool_] | NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Average (H, W) to (count, W) over rows by area."""
    old = values.shape[0]
    kind = np.int32 if values.dtype == np.bool_ else np.float64
    sums = np.zeros((old + 1, values.shape[1]), dtype=kind)
    np.cumsum(values, axis=0, dtype=kind, out=sums[1:])
    edges = np.arange(count + 1) * old  # in units of 1/count source rows
    whole, part = edges // count, (edges % count / count)[:, None]
    above = sums[np.minimum(whole + 1, old)] - sums[whole]  # the row that the edge cuts
    integral = sums[whole] + part * above  # (count + 1, W)
    return np.asarray(np.diff(integral, axis=0) * (count / old), dtype=np.float64)


def check_sides(height: int, width: int) -> None:
    """Refuse a size that no picture can have, before memory is asked for it.

    Raises:
        InputError: a side below 1 or above ``MAX_SIDE``.
    """
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(f"cannot resize to {height}x{width}; sides must be from 1 to {MAX_SIDE}")
