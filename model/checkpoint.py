"""The state of a training run on disk: whole or not at all, and never executed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from egeunet.model.atomic import write_bytes
from egeunet.model.errors import InputError

FILE_NAME = "checkpoint.pt"
_VERSION = 1


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """A network's state dict, detached from it."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def plain(value: Any) -> Any:
    """A recipe with lists for tuples, as a JSON round trip gives it: comparable as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class TrainingState:
    """All that a run needs to go on exactly where it was.

    Randomness is drawn anew from (seed, step), so no generator state is among it.
    """

    recipe: dict[str, Any]
    data_fingerprint: str
    step: int
    model: dict[str, torch.Tensor]
    averaged: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_iou: float = -1.0
    log: list[dict[str, float]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)  # of the epoch under way

    def save(self, folder: Path) -> None:
        """Write ``folder/checkpoint.pt``, replacing the one before."""
        buffer = io.BytesIO()
        # Recipe and log as JSON: plain text survives a weights-only load on any version.
        values = {**vars(self), "recipe": json.dumps(self.recipe), "log": json.dumps(self.log)}
        torch.save({"version": _VERSION, **values}, buffer)
        write_bytes(folder / FILE_NAME, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> TrainingState:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: no checkpoint there, or not one of ours.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise InputError(f"nothing to resume: {path} does not exist")
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            if values.pop("version") != _VERSION:
                raise InputError(f"{path} was written by another version of egeunet-train")
            values |= {"recipe": json.loads(values["recipe"]), "log": json.loads(values["log"])}
            return cls(**values)
        except InputError:
            raise
        except Exception as error:  # torch.load raises whatever the bytes provoke
            raise InputError(
                f"{path} is not a readable training checkpoint "
                f"({type(error).__name__}); remove it to start anew"
            ) from error
