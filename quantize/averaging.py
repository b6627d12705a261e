"""The averaged network of a fine-tuning, its optimizer, and what a checkpoint holds of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, detached from the network."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def plain(value: Any) -> Any:
    """With lists for tuples, as a JSON round trip gives it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
