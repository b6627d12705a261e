"""What is special about an image on which a model fails, measured and put into words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

_LUMA = np.array((0.299, 0.587, 0.114))
#: Share of the image below which a lesion is called tiny, above which huge.
_TINY, _HUGE = 0.02, 0.5
#: Mean distance in RGB, of 255, between a lesion and the ring of skin around it.
_LOW_CONTRAST = 30.0
#: Share of pixels that a closing by 9 x 9 brightens by more than 24 of 255: thin dark lines.
_CLOSING, _LINE, _HAIRY = 9, 24, 0.08
#: Share of pixels with more blue than red and a visible tint: ink marks and blue cloths.
_TINT, _INKED = 20, 0.01


@dataclass(frozen=True)
class ImageTraits:
    """Measures of one labelled image.

    Attributes:
        area: share of the image that is lesion, 0..1.
        touches_border: the lesion reaches the frame.
        contrast: distance of the mean colours of lesion and surrounding skin, 0..441;
            None where one of the two is empty.
        hair: share of pixels that are thin dark lines, 0..1.
        ink: share of pixels that are rather blue than red, 0..1.
    """

    area: float
    touches_border: bool
    contrast: float | None
    hair: float
    ink: float

    @property
    def kinds(self) -> tuple[str, ...]:
        """The field's words for what is out of the ordinary, none for an ordinary image."""
        found = {
            "tiny": self.area < _TINY,
            "huge": self.area > _HUGE,
            "touching the border": self.touches_border,
            "low contrast": self.contrast is not None and self.contrast < _LOW_CONTRAST,
            "hair": self.hair > _HAIRY,
            "ink or cloth": self.ink > _INKED,
        }
        return tuple(kind for kind, is_so in found.items() if is_so)


def traits(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> ImageTraits:
    """Measure one image.

    Args:
        image: uint8 (H, W, 3), RGB.
        mask: bool (H, W), True is lesion.
    """
    ring = _grown(mask) & ~mask
    contrast = None
    if mask.any() and ring.any():
        pixels = image.astype(np.float64)
        contrast = float(np.linalg.norm(pixels[mask].mean(0) - pixels[ring].mean(0)))
    frame = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    grey = Image.fromarray((image @ _LUMA).astype(np.uint8))
    closed = grey.filter(ImageFilter.MaxFilter(_CLOSING)).filter(ImageFilter.MinFilter(_CLOSING))
    lines = np.asarray(closed, np.int16) - np.asarray(grey, np.int16) > _LINE
    blue = image[..., 2].astype(np.int16) - image[..., 0] > _TINT
    return ImageTraits(
        float(mask.mean()), bool(frame.any()), contrast, float(lines.mean()), float(blue.mean())
    )


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and a border around it, a sixteenth of the image wide."""
    width = 2 * (min(mask.shape) // 32) + 1
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    for _ in range(2):
        picture = picture.filter(ImageFilter.MaxFilter(max(3, width)))
    grown: NDArray[np.bool_] = np.asarray(picture) > 0
    return grown


def verdict(tp: int, fp: int, fn: int) -> str:
    """How a mask is wrong, in words, from its pixel counts."""
    if tp + fn == 0:
        return "marks a lesion where there is none"
    if tp + fp == 0:
        return "finds nothing"
    if tp == 0:
        return "marks another place"
    if fp > 4 * fn:
        return "marks too much"
    return "marks too little" if fn > 4 * fp else "draws another border"
