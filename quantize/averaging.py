"""The averaged network of a fine-tuning, and its optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move ``averaged`` towards ``model``: parameters and running statistics alike."""
    sources = model.state_dict()
    for name, target in averaged.state_dict().items():
        if target.is_floating_point():
            target.lerp_(sources[name], 1 - decay)
        else:
            target.copy_(sources[name])


def new_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW on what is trained; vectors do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 2]},
        {"params": [p for p in trained if p.ndim <= 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, weight_decay=weight_decay, foreach=True)
