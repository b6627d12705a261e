"""EGE-UNet, the reference network (Ruan et al., MICCAI 2023, arXiv:2307.08473).

- six stages, three plain 3x3 convolutions and three GHPA blocks, mirrored
- GroupNorm(4), then max-pool (down) or bilinear resize (up), then GELU
- Group Aggregation Bridges on all skips, guided by side masks
- five side outputs for deep supervision, all at the input's resolution
- 53,374 parameters and 72.1 M multiply-accumulates at 256 x 256 by default
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egeunet.model.config import STRIDE, EGEUNetConfig
from egeunet.model.errors import InputError
from egeunet.model.layers import GAB, GHPA, DepthwiseSeparable, resize


class EGEUNetOutput(NamedTuple):
    """What a forward pass gives, as logits; probabilities are derived.

    Attributes:
        logits: (B, num_classes, H, W) float.
        side_logits: five (B, 1, H, W) float, coarsest (1/32) first, resized to the
            input; empty without deep supervision.
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...]

    @property
    def probability(self) -> Tensor:
        """(B, num_classes, H, W) in 0..1, probability of lesion."""
        return torch.sigmoid(self.logits)

    @property
    def side_probabilities(self) -> tuple[Tensor, ...]:
        """Five (B, 1, H, W) in 0..1, coarsest first."""
        return tuple(torch.sigmoid(side) for side in self.side_logits)


class EGEUNet(nn.Module):
    """The reference network; see the module docstring.

    Args:
        config: the architecture; the default is the paper's.
    """

    def __init__(self, config: EGEUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or EGEUNetConfig()
        c = self.config.channels
        self.encoder1 = nn.Sequential(nn.Conv2d(self.config.input_channels, c[0], 3, padding=1))
        self.encoder2 = nn.Sequential(nn.Conv2d(c[0], c[1], 3, padding=1))
        self.encoder3 = nn.Sequential(nn.Conv2d(c[1], c[2], 3, padding=1))
        self.encoder4 = nn.Sequential(_block(self.config.attention, c[2], c[3]))
        self.encoder5 = nn.Sequential(_block(self.config.attention, c[3], c[4]))
        self.encoder6 = nn.Sequential(_block(self.config.attention, c[4], c[5]))
        if self.config.bridge:
            for level in range(1, 6):
                bridge = GAB(
                    c[level], c[level - 1], use_mask=self.config.guided, dilated=self.config.dilated
                )
                setattr(self, f"GAB{level}", bridge)
        if self.config.deep_supervision:
            for step in range(1, 6):
                setattr(self, f"gt_conv{step}", nn.Sequential(nn.Conv2d(c[5 - step], 1, 1)))
        self.decoder1 = nn.Sequential(_block(self.config.attention, c[5], c[4]))
        self.decoder2 = nn.Sequential(_block(self.config.attention, c[4], c[3]))
        self.decoder3 = nn.Sequential(_block(self.config.attention, c[3], c[2]))
        self.decoder4 = nn.Sequential(nn.Conv2d(c[2], c[1], 3, padding=1))
        self.decoder5 = nn.Sequential(nn.Conv2d(c[1], c[0], 3, padding=1))
        for step in range(1, 6):
            setattr(self, f"ebn{step}", nn.GroupNorm(4, c[step - 1]))
            setattr(self, f"dbn{step}", nn.GroupNorm(4, c[5 - step]))
        self.final = nn.Conv2d(c[0], self.config.num_classes, 1)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> EGEUNetOutput:
        """Segment a batch.

        Args:
            image: (B, input_channels, H, W) float, H and W multiples of 32; the
                value range is the contract's, not the network's, concern.

        Raises:
            InputError: for a rank, channel count or size the network cannot take.
        """
        self._check(image)
        skips = []
        x = image
        for level in range(1, 6):
            x = getattr(self, f"ebn{level}")(getattr(self, f"encoder{level}")(x))
            x = F.gelu(F.max_pool2d(x, 2))  # (B, c[level-1], H/2^level, W/2^level)
            skips.append(x)
        deep = x = F.gelu(self.encoder6(x))  # (B, c[5], H/32, W/32)

        sides = []
        for step in range(1, 6):
            x = getattr(self, f"dbn{step}")(getattr(self, f"decoder{step}")(x))
            if step > 1:
                x = resize(x, (2 * x.shape[2], 2 * x.shape[3]))
            x = F.gelu(x)  # (B, c[5-step], H/2^(6-step), W/2^(6-step))
            mask = None
            if self.config.deep_supervision:
                mask = getattr(self, f"gt_conv{step}")(x)
                sides.append(resize(mask, image.shape[2:]))
            skip = skips[5 - step]
            if self.config.bridge:
                guide = mask if self.config.guided else None
                skip = getattr(self, f"GAB{6 - step}")(deep, skip, guide)
            deep = skip
            x = x + skip
        return EGEUNetOutput(resize(self.final(x), image.shape[2:]), tuple(sides))

    def _check(self, image: Tensor) -> None:
        expected = self.config.input_channels
        if image.ndim != 4 or image.shape[1] != expected:
            raise InputError(
                f"expected an image batch (B, {expected}, H, W), got {tuple(image.shape)}"
            )
        if any(side < STRIDE or side % STRIDE for side in image.shape[2:]):
            raise InputError(
                f"image sides must be multiples of {STRIDE}, got "
                f"{image.shape[2]} x {image.shape[3]}; resize or pad the image"
            )
        # dbn1 and dbn2 see 1/32 of the sides, in four groups.
        if min(self.config.channels[3:5]) == 4 and tuple(image.shape[2:]) == (STRIDE, STRIDE):
            raise InputError(
                f"an image of {STRIDE} x {STRIDE} with 4 channels in stage 4 or 5 leaves one "
                "value per normalization group; use a larger image or 8 channels"
            )

    @classmethod
    def from_public_state_dict(cls, state: dict[str, Tensor]) -> EGEUNet:
        """Build the network from a state dict of the public code, taken as it is.

        Wrappers (``model_state_dict``, ``state_dict``, ``module.`` prefixes) and the
        counters that its FLOP tool leaves behind are understood; widths and the
        presence of bridges and side outputs are read from the tensors. (Dilations do not
        show there; the public code's are taken.)

        Raises:
            InputError: naming the first tensors that are missing, unknown or misshapen.
        """
        from egeunet.model.weights import model_from_state

        return model_from_state(state)


def _block(attention: str, channels: int, out_channels: int) -> nn.Module:
    """One deep stage, of the kind that the configuration names."""
    if attention == "convolution":
        return nn.Conv2d(channels, out_channels, 3, padding=1)
    return (GHPA if attention == "ghpa" else DepthwiseSeparable)(channels, out_channels)


def _initialise(module: nn.Module) -> None:
    """Initial weights as in the public code: He for convolutions over their fan-out."""
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # shapes only, see weights.py; drawing there would import torch's compiler
    if isinstance(module, nn.Conv1d):
        fan_out = module.kernel_size[0] * module.out_channels
        nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, 0.0, (2.0 / (fan_out // module.groups)) ** 0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
