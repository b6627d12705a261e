"""The building blocks of EGE-UNet: channel LayerNorm, GHPA and GAB, and what ablates GHPA.

Parameter names are those of the public code, so that its checkpoints load as
they are. All tensors are (B, C, H, W), float; memory format is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egeunet.model.resampling import resize_for_training

#: GAB's dilations (paper, section 2.2: "dilation rates of 1, 2, 5, 7").
DILATIONS = (1, 2, 5, 7)
#: Side of the Hadamard parameter grids before they are resized to the feature map.
GRID = 8


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize with aligned corners, the only kind the network uses."""
    # An export of a network whose parameters still ask for gradients must find torch's own.
    if x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_exporting():
        return resize_for_training(x, *size)
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


class ChannelLayerNorm(nn.Module):
    """LayerNorm over the channels of each pixel, with an affine per channel (eps 1e-6)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.pow(2).mean(1, keepdim=True)
        normed = centred / torch.sqrt(variance + self.eps)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class GHPA(nn.Module):
    """Group multi-axis Hadamard Product Attention (paper, section 2.1).

    Four channel groups: three are multiplied by learned maps over (H, W),
    (C, W-free) and (C, H-free) axes, one passes a depthwise-separable convolution.
    (B, channels, H, W) -> (B, out_channels, H, W).
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        c = channels // 4
        self.params_xy = nn.Parameter(torch.ones(1, c, GRID, GRID))
        self.conv_xy = self._gate_convs(nn.Conv2d, c)
        self.params_zx = nn.Parameter(torch.ones(1, 1, c, GRID))
        self.conv_zx = self._gate_convs(nn.Conv1d, c)
        self.params_zy = nn.Parameter(torch.ones(1, 1, c, GRID))
        self.conv_zy = self._gate_convs(nn.Conv1d, c)
        self.dw = nn.Sequential(
            nn.Conv2d(c, c, 1), nn.GELU(), nn.Conv2d(c, c, 3, padding=1, groups=c)
        )
        self.norm1 = ChannelLayerNorm(channels)
        self.norm2 = ChannelLayerNorm(channels)
        self.ldw = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.GELU(),
            nn.Conv2d(channels, out_channels, 1),
        )

    @staticmethod
    def _gate_convs(conv: type[nn.Conv1d] | type[nn.Conv2d], c: int) -> nn.Sequential:
        return nn.Sequential(conv(c, c, 3, padding=1, groups=c), nn.GELU(), conv(c, c, 1))

    def gates(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """The three Hadamard factors for a feature map of height x width.

        They depend on parameters only. Returns xy (1, c, H, W), zx (1, c, H, 1)
        and zy (1, c, 1, W); the public code permutes the feature map instead.
        """
        c = self.params_xy.shape[1]
        xy = self.conv_xy(resize(self.params_xy, (height, width)))
        zx = self.conv_zx(resize(self.params_zx, (c, height))[0])  # (1, c, H)
        zy = self.conv_zy(resize(self.params_zy, (c, width))[0])  # (1, c, W)
        return xy, zx[..., None], zy[:, :, None, :]

    def forward(self, x: Tensor) -> Tensor:
        x1, x2, x3, x4 = self.norm1(x).chunk(4, dim=1)
        xy, zx, zy = self.gates(x.shape[2], x.shape[3])
        x = torch.cat((x1 * xy, x2 * zx, x3 * zy, self.dw(x4)), dim=1)
        return self.ldw(self.norm2(x))


class DepthwiseSeparable(nn.Module):
    """What a GHPA ends with, alone: depthwise 3x3 convolution, GELU, 1x1 convolution.

    (B, channels, H, W) -> (B, out_channels, H, W). It takes GHPA's place in an ablation.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.ldw = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.GELU(),
            nn.Conv2d(channels, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.ldw(x)
        return mixed


class GAB(nn.Module):
    """Group Aggregation Bridge (paper, section 2.2).

    Fuses the deeper map, the skip map and the mask logits at four dilations, which an
    ablation sets to one. ``use_mask`` says whether :meth:`forward` gets a mask.
    deep (B, Cd, h, w), skip (B, C, H, W), mask (B, 1, H, W) or None -> (B, C, H, W).
    """

    def __init__(
        self, deep_channels: int, channels: int, use_mask: bool = True, dilated: bool = True
    ) -> None:
        super().__init__()
        self.pre_project = nn.Conv2d(deep_channels, channels, 1)
        group = channels // 2 + int(use_mask)
        for index, dilation in enumerate(DILATIONS if dilated else (1,) * len(DILATIONS)):
            conv = nn.Conv2d(group, group, 3, padding=dilation, dilation=dilation, groups=group)
            setattr(self, f"g{index}", nn.Sequential(ChannelLayerNorm(group), conv))
        self.tail_conv = nn.Sequential(
            ChannelLayerNorm(4 * group), nn.Conv2d(4 * group, channels, 1)
        )

    @property
    def groups(self) -> list[nn.Sequential]:
        """The four normalized dilated convolutions, in the order of DILATIONS."""
        return [getattr(self, f"g{index}") for index in range(len(DILATIONS))]

    def forward(self, deep: Tensor, skip: Tensor, mask: Tensor | None) -> Tensor:
        deep = resize(self.pre_project(deep), skip.shape[2:])
        mask_part = () if mask is None else (mask,)
        parts = zip(self.groups, deep.chunk(4, dim=1), skip.chunk(4, dim=1), strict=True)
        mixed = [conv(torch.cat((d, s, *mask_part), dim=1)) for conv, d, s in parts]
        return self.tail_conv(torch.cat(mixed, dim=1))
