"""How good a student is on the validation part: against the truth and against the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.metrics import counts, mask_iou, scores
from egeunet.model.pictures import Pictures
from egeunet.quantize.mutual import Pair

_BATCH = 8


@dataclass(frozen=True)
class Measured:
    """IoU of the student, of the reference, and of their masks with each other, 0..1."""

    iou: float
    reference_iou: float
    mask_iou: float


class Validation:
    """Measures networks on pictures; the masks of a fixed reference are made once."""

    def __init__(self, reference: EGEUNet, contract: ModelContract, pictures: Pictures) -> None:
        self.contract, self.pictures = contract, pictures
        self.truth = pictures.masks[:, 0].numpy()
        self.reference = masks_of(reference, contract, pictures.images)

    def __call__(self, network: nn.Module) -> Measured:
        """Of a student, or of a :class:`Pair`, whose reference takes the fixed one's place."""
        reference = self.reference
        if isinstance(network, Pair):
            reference = masks_of(network.reference, self.contract, self.pictures.images)
            network = network.student
        masks = masks_of(network, self.contract, self.pictures.images)
        return Measured(
            scores(counts(masks, self.truth)).iou,
            scores(counts(reference, self.truth)).iou,
            mask_iou(masks, reference),
        )


@torch.no_grad()
def masks_of(network: nn.Module, contract: ModelContract, images: Tensor) -> np.ndarray:
    """A network's masks, bool (N, H, W), of uint8 (N, 3, H, W).

    Args:
        network: the reference or a student, in eval mode; what either gives begins with logits.
        contract, images: at the contract's size.
    """
    found = []
    for batch in images.split(_BATCH):
        logits = network(normalized(batch, contract))[0]
        found.append(torch.sigmoid(logits[:, 0]) >= contract.threshold)
    return torch.cat(found).numpy()


def normalized(images: Tensor, contract: ModelContract) -> Tensor:
    """Pixels 0..255 (B, 3, H, W), uint8 or float -> what the network takes, float32.

    ``ModelContract.normalize`` for tensors.
    """
    pixels = images.float()
    if contract.normalization == "unit":
        return pixels / 255
    low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
    return (pixels - low) / (high - low).clamp(min=1) * 255
