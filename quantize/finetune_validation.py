"""How good a student is on the validation part: against the truth and against the reference."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.metrics import counts, mask_iou, scores
from egeunet.model.pictures import Pictures

_BATCH = 8


class Validation:
    """Measures networks on pictures; the reference's masks are made once."""

    def __init__(self, reference: EGEUNet, contract: ModelContract, pictures: Pictures) -> None:
        self.contract, self.pictures = contract, pictures
        self.truth = pictures.masks[:, 0].numpy()
        self.reference = masks_of(reference, contract, pictures.images)

    def __call__(self, student: nn.Module) -> tuple[float, float]:
        """IoU with the truth and with the reference's masks, pooled over pixels, 0..1."""
        masks = masks_of(student, self.contract, self.pictures.images)
        return scores(counts(masks, self.truth)).iou, mask_iou(masks, self.reference)

    def reference_iou(self) -> float:
        """IoU of the reference with the truth."""
        return scores(counts(self.reference, self.truth)).iou


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
