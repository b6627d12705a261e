"""The pictures of a report: the outlines of a poor mask, and where probabilities differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from egeunet.model.errors import InputError

#: Longest side of the drawing, pixels; a report holds a few dozen of them.
SIDE = 320
#: A picture is never larger than this, bytes.
LIMIT = 60_000
_LEGEND = 22
#: Palette sizes that are tried, and how far the picture is scaled down after them.
_COLOURS = (256, 128, 64, 32, 16)
_SHRINK = 0.75

_TRUTH, _REFERENCE, _CANDIDATE = (255, 255, 255), (70, 200, 255), (255, 170, 0)
#: Candidate lower, equal, higher than the reference.
_LOWER, _EQUAL, _HIGHER = (33, 102, 200), (244, 244, 244), (200, 60, 20)
_NOT_FINITE = (255, 0, 255)
_CONTOUR = (90, 90, 90)

Drawing = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class Evidence:
    """One image with what was said about it.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        mask: bool (H, W), the ground truth.
        reference: float (H, W), probabilities of the reference, 0..1.
        candidate: float (H, W), those of the row; may hold NaN and infinities.
        threshold: a pixel is lesion where its probability is greater or equal.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    reference: NDArray[np.floating[Any]]
    candidate: NDArray[np.floating[Any]]
    threshold: float = 0.5

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        if self.image.dtype != np.uint8 or self.image.shape != (*size, 3) or 0 in size:
            raise InputError(
                f"a picture needs an image of uint8 (H, W, 3), got {self.image.dtype} "
                f"{self.image.shape}"
            )
        for name in ("mask", "reference", "candidate"):
            if getattr(self, name).shape != size:
                raise InputError(
                    f"{name} is {getattr(self, name).shape}, its image {size}; give one size"
                )


def worst_picture(evidence: Evidence) -> bytes:
    """PNG: the image with the outlines of ground truth, reference and candidate, and a legend."""
    size = _size(evidence)
    drawn = np.asarray(_resized(Image.fromarray(evidence.image), size)).copy()
    layers = (
        (evidence.mask.astype(np.float32), 0.5, _TRUTH),
        (evidence.reference, evidence.threshold, _REFERENCE),
        (evidence.candidate, evidence.threshold, _CANDIDATE),
    )
    for values, threshold, colour in layers:
        drawn[_outline(_enlarged(values, size) >= threshold)] = colour
    names = ((_TRUTH, "truth"), (_REFERENCE, "reference"), (_CANDIDATE, "this file"))
    return _png(drawn, lambda draw, top: _swatches(draw, top, names))


def difference_picture(evidence: Evidence) -> bytes:
    """PNG: candidate minus reference, blue below and red above, over the truth's outline.

    The scale goes to the largest difference (rounded up to 1, 2 or 5 times a power of
    ten) and stands below; pixels without a finite difference are magenta.
    """
    difference = evidence.candidate.astype(np.float64) - evidence.reference
    finite = np.isfinite(difference)
    scale = _round_up(float(np.abs(difference[finite]).max(initial=0.0)))
    share = np.clip(np.where(finite, difference, 0.0) / scale, -1, 1)[..., None]  # (H, W, 1)
    ends = np.where(share < 0, np.array(_LOWER, float), np.array(_HIGHER, float))
    colours = (1 - np.abs(share)) * np.array(_EQUAL, float) + np.abs(share) * ends
    colours[~finite] = _NOT_FINITE
    size = _size(evidence)
    drawn = np.asarray(
        Image.fromarray(colours.round().astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    ).copy()
    truth = _enlarged(evidence.mask.astype(np.float32), size) >= 0.5
    drawn[_outline(truth)] = _CONTOUR
    bad = int((~finite).sum())
    return _png(drawn, lambda draw, top: _scale_bar(draw, top, scale, bad))


def picture_entry(kind: str, title: str, row: str, png: bytes) -> dict[str, str]:
    """An entry of ``report["pictures"]``; ``kind`` is "worst" or "difference"."""
    encoded = base64.b64encode(png).decode()
    return {"title": title, "row": row, "kind": kind, "png_base64": encoded}


def _size(evidence: Evidence) -> tuple[int, int]:
    """Width and height of the drawing, the image's proportions kept."""
    height, width = evidence.mask.shape
    scale = SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC)


def _enlarged(values: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) at the drawing's size, bilinear; NaN counts as no lesion."""
    finite = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return np.asarray(Image.fromarray(finite).resize(size, Image.Resampling.BILINEAR))


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask beside one that is not; the border of the image is no outline."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 1e-6 for nothing."""
    if value <= 1e-6:
        return 1e-6
    decade = 10.0 ** np.floor(np.log10(value))
    steps = (step * decade for step in (1, 2, 5, 10))
    return float(next(s for s in steps if s >= value * (1 - 1e-9)))


def _png(drawn: Drawing, legend: Callable[[ImageDraw.ImageDraw, int], None]) -> bytes:
    """The drawing above its legend, in as many colours and pixels as the limit allows."""
    height, width = drawn.shape[:2]
    while True:
        sheet = Image.new("RGB", (max(width, SIDE), height + _LEGEND), (24, 26, 30))
        sheet.paste(_resized(Image.fromarray(drawn), (width, height)), (0, 0))
        legend(ImageDraw.Draw(sheet), height)
        for colours in _COLOURS:
            data = io.BytesIO()
            sheet.quantize(colours, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
            if data.tell() <= LIMIT:
                return data.getvalue()
        height, width = round(height * _SHRINK), round(width * _SHRINK)


def _swatches(
    draw: ImageDraw.ImageDraw, top: int, names: tuple[tuple[tuple[int, int, int], str], ...]
) -> None:
    font = ImageFont.load_default(13)
    left = 6
    for colour, name in names:
        draw.rectangle((left, top + 9, left + 14, top + 12), fill=colour)
        draw.text((left + 19, top + 3), name, fill=(235, 235, 235), font=font)
        left += 19 + round(draw.textlength(name, font=font)) + 16


def _scale_bar(draw: ImageDraw.ImageDraw, top: int, scale: float, bad: int) -> None:
    font = ImageFont.load_default(13)
    low, high = f"-{scale:g}", f"+{scale:g}"
    left = 6 + round(draw.textlength(low, font=font)) + 6
    draw.text((6, top + 3), low, fill=(235, 235, 235), font=font)
    for step in range(81):
        share = step / 40 - 1
        end = _LOWER if share < 0 else _HIGHER
        colour = tuple(
            round((1 - abs(share)) * e + abs(share) * c) for e, c in zip(_EQUAL, end, strict=True)
        )
        draw.line((left + step, top + 6, left + step, top + 15), fill=colour)
    draw.text((left + 88, top + 3), high, fill=(235, 235, 235), font=font)
    if bad:
        text = f"{bad:,} not finite"
        draw.text((left + 140, top + 3), text, fill=_NOT_FINITE, font=font)
