"""What every tool is given: the reference with the one output that is exported."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from egeunet.model import EGEUNet, ModelContract, load_weights
from egeunet.model.errors import InputError


class MainOutput(nn.Module):
    """EGE-UNet without its side outputs: (1, 3, H, W) float32 -> (1, 1, H, W) probability."""

    # Some tools write a class's full name beside every tensor: ours, in litert-torch's file,
    # 48 KB. This is what the script of a user of theirs has.
    __module__ = "__main__"

    def __init__(self, network: EGEUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The lesion probability, 0..1, of a normalized image."""
        return self.network(image).probability


def reference(weights: Path) -> tuple[MainOutput, Tensor, ModelContract]:
    """The network in eval mode, an image of its size to trace it with, and its contract.

    Raises:
        InputError: unreadable weights, or not 3 input channels and 1 class.
    """
    network, contract = load_weights(weights)
    config = network.config
    if (config.input_channels, config.num_classes) != (3, 1):
        raise InputError(
            f"{weights}: expected 3 input channels and 1 class, "
            f"got {config.input_channels} and {config.num_classes}"
        )
    image = torch.rand(1, 3, contract.height, contract.width, generator=torch.Generator())
    # Without gradients: the network resizes by an operator of its own where there are some.
    return MainOutput(network).eval().requires_grad_(False), image, contract
