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
        self.reference = self._masks(reference)

    def __call__(self, student: nn.Module) -> tuple[float, float]:
        """IoU with the truth and with the reference's masks, pooled over pixels, 0..1."""
        masks = self._masks(student)
        return scores(counts(masks, self.truth)).iou, mask_iou(masks, self.reference)

    def reference_iou(self) -> float:
        """IoU of the reference with the truth."""
        return scores(counts(self.reference, self.truth)).iou

    @torch.no_grad()
    def _masks(self, network: nn.Module) -> np.ndarray:
        found = []
        for images in self.pictures.images.split(_BATCH):
            # Both the reference's and a student's output begin with the logits.
            logits = network(normalized(images, self.contract))[0]
            found.append(torch.sigmoid(logits[:, 0]) >= self.contract.threshold)
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
