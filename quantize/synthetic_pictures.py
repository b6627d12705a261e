"""Made-up pictures beside a fine-tuning's own: skin tones and artefacts that these lack."""

from __future__ import annotations

import numpy as np
import torch

from egeunet.model.contract import ModelContract
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.egeunet import EGEUNet
from egeunet.model.pictures import Pictures
from egeunet.quantize.finetune_validation import masks_of

#: Neither the series of the exporter's check nor that of its calibration.
_SEED = 3000


def with_synthetic(
    pictures: Pictures, count: int, reference: EGEUNet, contract: ModelContract
) -> Pictures:
    """The pictures and ``count`` synthetic ones, each of which an epoch shows once.

    Their masks are the reference's: what is to be learned from them is what the reference
    does on pictures unlike its training's, right or wrong.

    Args:
        pictures: at the contract's size.
        count: 0 or more.
        reference, contract: the float network, in eval mode, and its contract.
    """
    if not count:
        return pictures
    height, width = contract.height, contract.width
    made = synthetic_dataset(count, max(height, width), _SEED).resized(height, width)
    images = Pictures.from_arrays(made.images, made.masks).images
    masks = torch.from_numpy(masks_of(reference, contract, images))[:, None]  # (count, 1, H, W)
    first = len(pictures.images)
    return Pictures(
        torch.cat((pictures.images, images)),
        torch.cat((pictures.masks, masks)),
        np.concatenate((pictures.epoch, np.arange(first, first + count))),
    )
