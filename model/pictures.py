"""The pictures of a training run, in memory as bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Pictures:
    """Images and masks in memory.

    Attributes:
        images: uint8 (N, 3, H, W).
        masks: bool (N, 1, H, W).
        epoch: int64 (M,), the pictures that an epoch is made of; some may occur repeatedly.
    """

    images: Tensor
    masks: Tensor
    epoch: NDArray[np.int64]

    @classmethod
    def from_arrays(
        cls,
        images_nhwc: NDArray[np.uint8],
        masks: NDArray[np.bool_],
        repeats: NDArray[np.int64] | None = None,
    ) -> Pictures:
        """From uint8 (N, H, W, 3), bool (N, H, W) and how often an epoch shows each (N,)."""
        if len(images_nhwc) == 0:
            raise InputError("no image to train on: the data set is empty")
        # Kept as uint8 NHWC in memory: the permuted view is channels_last as it is.
        images = torch.from_numpy(np.ascontiguousarray(images_nhwc)).permute(0, 3, 1, 2)
        epoch = np.repeat(np.arange(len(images)), 1 if repeats is None else repeats)
        return cls(images, torch.from_numpy(np.ascontiguousarray(masks))[:, None], epoch)

    def resized(self, size: int) -> Pictures:
        """The same pictures at size x size, antialiased."""
        if self.images.shape[2:] == (size, size):
            return self
        images, masks = [], []
        for image, mask in zip(self.images.split(64), self.masks.split(64), strict=True):
            small = F.interpolate(image.float(), (size, size), mode="bilinear", antialias=True)
            images.append(
                small.round().clamp(0, 255).byte().contiguous(memory_format=torch.channels_last)
            )
            masks.append(F.adaptive_avg_pool2d(mask.float(), (size, size)) >= 0.5)
        return Pictures(torch.cat(images), torch.cat(masks), self.epoch)

    def fingerprint(self) -> str:
        """A hash of images and masks, so that a run is not resumed on other data."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.epoch.tobytes())
        for image, mask in zip(self.images, self.masks, strict=True):
            digest.update(image.contiguous().numpy().tobytes())
            digest.update(np.packbits(mask.numpy()).tobytes())
        return digest.hexdigest()
