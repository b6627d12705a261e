"""The picture that shows a mask on its image: a contour and a translucent fill."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Contour and fill, RGB: a green that neither skin nor lesion has.
COLOUR = (0, 255, 96)
#: Share of the colour inside the lesion, in 256ths.
_FILL = 56
#: The contour is one pixel wide per so many pixels of the longer side.
_PIXELS_PER_LINE = 400


def overlay(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a mask over its image.

    Args:
        image: uint8 (H, W, 3), RGB; not changed.
        mask: bool (H, W), True is lesion.

    Returns:
        uint8 (H, W, 3). The contour lies inside the lesion; skin pixels stay as they are.
    """
    drawn = image.copy()
    colour = np.array(COLOUR, dtype=np.uint16)
    inside = image[mask].astype(np.uint16)  # (pixels, 3)
    drawn[mask] = ((inside * (256 - _FILL) + colour * _FILL) >> 8).astype(np.uint8)
    width = max(1, round(max(mask.shape) / _PIXELS_PER_LINE))
    drawn[mask & ~_eroded(mask, width)] = colour.astype(np.uint8)
    return drawn


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """(x0, y0, x1, y1) around a bool (H, W) mask, x1 and y1 exclusive; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _eroded(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Erode by ``radius`` steps of four neighbours; the border of the image does not erode."""
    for _ in range(radius):
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        mask = inner
    return mask
