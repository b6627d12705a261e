"""Which norms may become static: the damage each does when it alone is, before fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.metrics import mask_iou
from egeunet.quantize.static_norms import norm_names, with_static_norms

_BATCH = 8


@dataclass(frozen=True)
class NormDamage:
    """What making some norms static costs.

    Attributes:
        what: a norm's name, or that of a group.
        norms: how many of them.
        mask_iou: IoU with the reference's masks, pooled over all pixels, 0..1.
    """

    what: str
    norms: int
    mask_iou: float

    def to_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return {"what": self.what, "norms": self.norms, "mask_iou": round(self.mask_iou, 4)}


def rank_norms(
    model: EGEUNet,
    fitted_on: Tensor,
    measured_on: Tensor,
    groups: Mapping[str, Sequence[str]] | None = None,
    on_done: Callable[[NormDamage], None] | None = None,
) -> list[NormDamage]:
    """Damage of each norm alone, or of each group, least first.

    Args:
        model: the reference in eval mode.
        fitted_on: (B, 3, H, W) float, normalized training images.
        measured_on: (N, 3, H, W) float, other training images.
        groups: name -> names of norms; None = each norm alone.
        on_done: called after each, for progress.

    Raises:
        InputError: no image to measure on, an unknown norm.
    """
    if not len(measured_on):
        raise InputError("ranking norms needs at least one image to measure on")
    reference = masks(model, measured_on)
    rows = []
    for what, names in (groups or {name: (name,) for name in norm_names(model)}).items():
        static = with_static_norms(model, tuple(names), fitted_on)
        row = NormDamage(what, len(names), mask_iou(masks(static, measured_on), reference))
        rows.append(row)
        if on_done:
            on_done(row)
    return sorted(rows, key=lambda row: -row.mask_iou)


@torch.inference_mode()
def masks(model: EGEUNet, images: Tensor, threshold: float = 0.5) -> NDArray[np.bool_]:
    """bool (N, H, W) masks for normalized images (N, 3, H, W) float."""
    found = [model(batch).probability[:, 0] >= threshold for batch in images.split(_BATCH)]
    return torch.cat(found).numpy()


def table(rows: Sequence[NormDamage]) -> str:
    """Markdown, least damage first."""
    lines = ["| static | norms | mask IoU |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.norms} | {row.mask_iou:.4f} |" for row in rows]
    return "\n".join(lines)
