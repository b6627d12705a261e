"""What a fine-tuning sees of its training pictures."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egeunet.model.augment import Augmentation
from egeunet.model.contract import ModelContract
from egeunet.model.pictures import Pictures
from egeunet.quantize.finetune_validation import normalized

#: Training pictures on which norms are fitted and first bounds recorded.
_FITTED_ON = 32


def fitting_samples(training: Pictures, contract: ModelContract) -> Tensor:
    """(B, 3, H, W) float, normalized: a few pictures, evenly spread."""
    places = np.linspace(0, len(training.images) - 1, _FITTED_ON).astype(int)
    return normalized(training.images[np.unique(places)], contract)


def augmented_batch(
    training: Pictures,
    chosen: NDArray[np.int64],
    augmentation: Augmentation,
    contract: ModelContract,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Normalized images (B, 3, H, W), channels_last, and masks (B, 1, H, W), float.

    Args:
        training: at the contract's size.
        chosen: (B,), places among its pictures.
        augmentation, rng: how they are changed.
    """
    index = torch.from_numpy(chosen)
    images, masks = training.images[index].float() / 255, training.masks[index].float()
    images, masks = augmentation(images, masks, rng)
    images = normalized(images * 255, contract)
    return images.contiguous(memory_format=torch.channels_last), masks.contiguous()
