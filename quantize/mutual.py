"""A student and the float reference that learn from each other.

Deep mutual learning (Zhang et al., arXiv:1706.00384): both fit the ground truth, and each the
other's probabilities. A reference that is trained beside what it will be deployed as ends
where that can follow, which distillation from finished weights cannot reach.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egeunet.model.losses import deep_supervision_loss
from egeunet.quantize.distillation import Distillation
from egeunet.quantize.taps import TappedNetwork


class Pair(nn.Module):
    """Both networks as one module: one optimizer, one average, one checkpoint.

    Args:
        student: gives logits and maps as a TappedNetwork does.
        reference: the float network.
    """

    def __init__(self, student: nn.Module, reference: TappedNetwork) -> None:
        super().__init__()
        self.student, self.reference = student, reference

    def forward(self, image: Tensor) -> Tensor:
        """The student's logits; the loss and the validation run both."""
        logits: Tensor = self.student(image)[0]
        return logits


class MutualLoss(Distillation):
    """The student's loss of :class:`Distillation` plus the reference's own; the teacher only
    gives the scale of the maps.

    Attributes:
        mutual: weight of the reference's loss against the student's probabilities; that
            against the ground truth is the one of its training and counts 1.
    """

    mutual: float = 1.0

    def __call__(self, student: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
        """The loss of a :class:`Pair`."""
        assert isinstance(student, Pair)
        output, goals = student.reference.full(images)
        logits, found = student.student(images)
        fixed = {place: goal.detach() for place, goal in goals.items()}
        loss = self.against(logits, found, masks, output.logits.detach(), fixed)
        wanted = torch.sigmoid(logits.detach())
        own = deep_supervision_loss(output, masks, self.pooled)
        return loss + own + self.mutual * F.binary_cross_entropy_with_logits(output.logits, wanted)
