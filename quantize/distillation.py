"""The loss of a student against the float reference: probabilities and inner maps.

Soft targets are those of Hinton et al. (arXiv:1503.02531), matched maps those of FitNets
(Romero et al., arXiv:1412.6550); the ground truth counts as in the reference's training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egeunet.model.losses import bce_dice
from egeunet.quantize.taps import TappedNetwork

#: Below this part of a place's mean variance a channel's own counts no less.
_SMALLEST_VARIANCE = 0.05


class Distillation:
    """The loss; see the module docstring.

    Args:
        teacher: the reference in eval mode.
        images: (B, 3, H, W) float, normalized; the scale of every map is measured on them.
        truth, maps: weights, see :class:`egeunet.quantize.finetune_plan.FinetunePlan`.
        pooled: see :func:`egeunet.model.losses.bce_dice`.
    """

    def __init__(
        self,
        teacher: TappedNetwork,
        images: Tensor,
        truth: float,
        maps: float,
        pooled: float = 0.0,
    ) -> None:
        self.teacher, self.truth, self.maps, self.pooled = teacher, truth, maps, pooled
        with torch.no_grad():
            _, found = teacher(images)
        self.weights = {place: _weights(value) for place, value in found.items()}

    def __call__(self, student: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
        """The loss of ``student``, which gives logits and maps as a TappedNetwork does.

        Args:
            images: (B, 3, H, W) float, normalized.
            masks: (B, 1, H, W) float in 0..1, soft at resampled borders.
        """
        with torch.no_grad():
            wanted, goals = self.teacher(images)
        logits, found = student(images)
        return self.against(logits, found, masks, wanted, goals)

    def against(
        self,
        logits: Tensor,
        found: Mapping[str, Tensor],
        masks: Tensor,
        wanted: Tensor,
        goals: Mapping[str, Tensor],
    ) -> Tensor:
        """The loss of a student's logits and maps.

        Args:
            logits, found: the student's.
            masks: the ground truth.
            wanted, goals: the teacher's logits and maps.
        """
        loss = F.binary_cross_entropy_with_logits(logits, torch.sigmoid(wanted))
        loss = loss + self.truth * bce_dice(logits, masks, self.pooled)
        return loss + self.maps * self.distance(found, goals)

    def distance(self, found: Mapping[str, Tensor], goals: Mapping[str, Tensor]) -> Tensor:
        """Mean over shared places of the squared error in units of the map's variance."""
        errors = [
            ((found[place] - goal).square() * self.weights[place]).mean()
            for place, goal in goals.items()
            if place in found
        ]
        return torch.stack(errors).mean()


def _weights(value: Tensor) -> Tensor:
    """(C, 1, 1): one over the variance of each channel of (B, C, h, w)."""
    variance = value.var((0, 2, 3), correction=0)
    return 1 / variance.clamp(min=_SMALLEST_VARIANCE * float(variance.mean()))[:, None, None]
