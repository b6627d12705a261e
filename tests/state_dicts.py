"""A small network's state dict, and what a refusal of a file looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from egeunet.model import EGEUNet, EGEUNetConfig, load_weights
from egeunet.model.errors import InputError

State = dict[str, Tensor]
SMALL = EGEUNetConfig(channels=(4, 8, 4, 8, 8, 8))


def small_state() -> State:
    """Of a small network, with the public code's names."""
    torch.manual_seed(0)
    return EGEUNet(SMALL).state_dict()


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def assert_refused(path: Path, reason: str) -> None:
    """One line that begins with the path and gives the reason."""
    with pytest.raises(InputError, match=reason) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message and "\x1b" not in message
