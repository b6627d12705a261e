"""The training loss: BCE + Dice on the final map and, weighted, on the five side maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from egeunet.model.egeunet import EGEUNetOutput

#: Weights of the side outputs, coarsest first (paper, section 3.2; the final map counts 1).
SIDE_WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5)


def bce_dice(logits: Tensor, target: Tensor, pooled: float = 0.0) -> Tensor:
    """Binary cross-entropy plus 1 - Dice, the latter per image and then averaged.

    Args:
        logits: (B, C, H, W) float.
        target: (B, C, H, W) float in 0..1, soft at resampled borders.
        pooled: 0..1, the part of Dice that is of the batch as a whole, in which large lesions
            count more, as they do in the pooled IoU.
    """
    bce = F.binary_cross_entropy_with_logits(logits, target)
    probability = torch.sigmoid(logits)
    overlap = (probability * target).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + target.sum((1, 2, 3))
    # The 1 in both places is the public code's smoothing; it makes empty masks defined.
    dice = ((2.0 * overlap + 1.0) / (total + 1.0)).mean()
    if pooled:
        of_all = (2.0 * overlap.sum() + 1.0) / (total.sum() + 1.0)
        dice = (1 - pooled) * dice + pooled * of_all
    return bce + 1.0 - dice


def deep_supervision_loss(output: EGEUNetOutput, target: Tensor, pooled: float = 0.0) -> Tensor:
    """:func:`bce_dice` of the final map plus the weighted ones of the side maps.

    Args:
        output: of the network, for (B, 3, H, W).
        target: (B, num_classes, H, W) float in 0..1. A side map has one channel: any class.
        pooled: as :func:`bce_dice`.
    """
    loss = bce_dice(output.logits, target, pooled)
    foreground = target.amax(1, keepdim=True)
    # Without deep supervision there is no side map, and the loss is the final map's.
    for weight, side in zip(SIDE_WEIGHTS, output.side_logits, strict=False):
        loss = loss + weight * bce_dice(side, foreground, pooled)
    return loss
