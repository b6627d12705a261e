"""Augmentation of a whole batch at once, reproducible from a seed and a step number.

Geometry (flips, rotation, zoom, shear, shift) is one affine resampling of image and
mask together; pasted lesions and colour (gain per channel, brightness, contrast, saturation)
follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from egeunet.model.errors import InputError

_LUMA = (0.299, 0.587, 0.114)
#: Of a channel, in 0..1: a blank picture has none to be divided by.
_SMALLEST_DEVIATION = 0.01
#: Of the picture: with less in sight nobody knows the skin's colour.
_SMALLEST_SKIN = 0.05
#: Pixels of a 256 pixel side over which a pasted lesion's surroundings blend into the new ones.
_PASTED_BORDER = 17
_RANGES = ("rotate", "stretch", "shear", "shift", "gain", "brightness", "contrast", "saturation",
           "blank", "restyle", "paste")  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; zero switches a change off.

    Attributes:
        flip: mirror each axis with probability one half.
        rotate: degrees to either side, drawn per image.
        zoom: lower and upper bound of the factor, drawn log-uniformly; > 1 enlarges.
        stretch: log-range of the two axes' ratio.
        shear, shift: as fractions of the side, to either side.
        gain: log-range of a factor per colour channel (white balance).
        brightness, contrast, saturation: to either side of neutral.
        blank: probability of a blanked rectangle (cutout; the mask stays).
        restyle: probability that an image takes, in part, the colours of the one before it in
            the batch: mean and deviation of each channel (Reinhard et al., 2001, in RGB).
        paste: probability that an image takes the lesion of the one before it in the batch, if
            that is the larger one (copy-paste, Ghiasi et al., CVPR 2021), moved by the difference
            of both skins' mean colours: large lesions in the surroundings of small ones.
    """

    flip: bool = True
    rotate: float = 180.0
    zoom: tuple[float, float] = (0.75, 1.4)
    stretch: float = 0.15
    shear: float = 0.1
    shift: float = 0.1
    gain: float = 0.08
    brightness: float = 0.12
    contrast: float = 0.25
    saturation: float = 0.3
    blank: float = 0.0
    restyle: float = 0.0
    paste: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise InputError(f"zoom must be two growing positive numbers, got {self.zoom}")
        for name in _RANGES:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be 0 or more, got {getattr(self, name)}")

    def __call__(
        self, images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            images: (B, 3, H, W) float in 0..1.
            masks: (B, 1, H, W) float in 0..1.
            rng: the only source of randomness.

        Returns:
            Both, same shapes and ranges; masks are soft where resampling blends them.
        """
        theta = torch.from_numpy(self._affine(len(images), rng))
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        both = torch.cat((images, masks), dim=1)
        both = F.grid_sample(both, grid, padding_mode="reflection", align_corners=False)
        images, masks = both[:, :3], both[:, 3:]
        if self.paste:
            images, masks = self._pasted(images, masks, rng)
        if self.restyle:
            images = self._restyled(images, rng)
        images = self._colour(images, rng)
        if self.blank:
            images = self._blank(images, rng)
        return images, masks

    def _affine(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, 2, 3) float32: output coordinates -> input coordinates, both -1..1."""
        angle = rng.uniform(-self.rotate, self.rotate, count) * math.pi / 180
        zoom = np.exp(rng.uniform(math.log(self.zoom[0]), math.log(self.zoom[1]), count))
        stretch = np.exp(rng.uniform(-self.stretch, self.stretch, count) / 2)
        shear = rng.uniform(-self.shear, self.shear, count)
        flip = rng.choice((-1.0, 1.0), (2, count)) if self.flip else np.ones((2, count))
        shift = rng.uniform(-2 * self.shift, 2 * self.shift, (2, count))
        cos, sin = np.cos(angle), np.sin(angle)
        sx, sy = flip[0] * stretch / zoom, flip[1] / (stretch * zoom)
        rows = ((cos * sx, (cos * shear - sin) * sy, shift[0]),
                (sin * sx, (sin * shear + cos) * sy, shift[1]))  # fmt: skip
        return np.moveaxis(np.array(rows), 2, 0).astype(np.float32)

    def _pasted(
        self, images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Some images with the larger lesion of the one before."""
        drawn = torch.from_numpy(rng.random(len(images)) < self.paste).to(images.device)
        others, lesions = images.roll(1, 0), masks.roll(1, 0)
        area, skin = masks.mean((1, 2, 3)), (1 - masks).mean((1, 2, 3))  # (B,)
        known = skin >= _SMALLEST_SKIN
        chosen = drawn & known & known.roll(1, 0) & (area.roll(1, 0) > area)
        colour = (images * (1 - masks)).mean((2, 3)) / skin.clamp(min=_SMALLEST_SKIN)[:, None]
        moved = others + (colour - colour.roll(1, 0))[:, :, None, None]
        side = _PASTED_BORDER * images.shape[-1] // 512 * 2 + 1
        near = F.avg_pool2d(lesions, side, 1, side // 2, count_include_pad=False)
        # Whole on the lesion and its border, so that no edge appears which nature did not draw.
        taken = chosen.view(-1, 1, 1, 1)
        part = (2 * near).clamp(0, 1) * taken
        # What was a lesion here stays one where it can be seen.
        masks = torch.maximum(masks * (1 - part), lesions * taken)
        return torch.lerp(images, moved, part).clamp_(0, 1), masks

    def _restyled(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Some images moved by a random part of the way to their neighbour's colours."""
        count = len(images)
        part = rng.uniform(0, 1, count) * (rng.random(count) < self.restyle)
        way = torch.from_numpy(part.astype(np.float32)).view(-1, 1, 1, 1).to(images.device)
        deviation, mean = torch.std_mean(images, (2, 3), keepdim=True)  # (B, 3, 1, 1)
        deviation = deviation.clamp(min=_SMALLEST_DEVIATION)
        factor = 1 + way * (deviation.roll(1, 0) / deviation - 1)
        return ((images - mean) * factor + mean + way * (mean.roll(1, 0) - mean)).clamp_(0, 1)

    def _colour(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Gains, saturation, contrast and brightness, as one matrix and one offset per image.

        All four are affine in the pixel, so that one product replaces eight passes.
        """
        count = len(images)

        def draw(spread: float, channels: int = 1) -> NDArray[np.float64]:
            return rng.uniform(-spread, spread, (count, channels, 1))

        gain = np.exp(draw(self.gain, 3))  # (B, 3, 1)
        saturation, contrast = 1 + draw(self.saturation), 1 + draw(self.contrast)
        luma = np.array(_LUMA)
        grey = np.ones((3, 1)) * luma  # (3, 3): every row takes the grey value
        mixed = grey + (np.eye(3) - grey) * saturation  # (B, 3, 3)
        matrix = contrast * mixed * np.swapaxes(gain, 1, 2)
        # Contrast turns about the mean grey value, which saturation leaves as it is.
        means = images.mean((2, 3)).numpy(force=True).astype(np.float64)[..., None]  # (B, 3, 1)
        pivot = luma @ (gain * means)  # (B, 1)
        offset = ((1 - contrast) * pivot[..., None] + draw(self.brightness)).repeat(3, 1)
        factors = torch.from_numpy(matrix.astype(np.float32)).to(images.device)
        terms = torch.from_numpy(offset.astype(np.float32)).to(images.device)
        flat = torch.baddbmm(terms, factors, images.flatten(2))
        return flat.view_as(images).clamp_(0, 1)

    def _blank(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        images = images.clone()
        height, width = images.shape[2:]
        for image in images:
            if rng.random() < self.blank:
                h, w = (
                    rng.integers(height // 16, height // 4),
                    rng.integers(width // 16, width // 4),
                )
                y, x = rng.integers(0, height - h), rng.integers(0, width - w)
                image[:, y : y + h, x : x + w] = torch.from_numpy(
                    rng.uniform(0, 1, (3, 1, 1)).astype(np.float32)
                )
        return images
