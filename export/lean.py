"""The deploy form for runtimes without norm kernels: norms dissolved into their neighbours.

Same function as :mod:`egeunet.export.deploy`, from the same reference, in a third of the
operators that lowering each norm on its own would take. The rewrites, all exact in real
arithmetic (tests/unit/test_lean.py bounds the rounding):

- *sign absorption*: GroupNorm's affine a * x + b moves behind the max-pool, where it costs a
  quarter; max-pooling commutes with it for a >= 0, so the sign of gamma goes into the
  convolution before (and into the group means, which see the flipped channels)
- *moments*: a large map's GroupNorm has its variance from E[x^2] - E[x]^2 of vectors, so that no
  centred map is needed; but the first one, which sees how bright and how flat a picture is,
  and those of small maps are centred before they are squared
- *means in two steps*: over the columns, then over what that leaves
- *gamma folding*: a LayerNorm's gamma goes into what multiplies its result anyway; with zero
  padding behind it beta stays, as beta / gamma before or beta after
- *rows*: vectors per channel are repeated along a row before they meet a large map
- bridges: see lean_bridge.py
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import as_array, convolution_arrays, new_builder
from egeunet.export.graph import Graph
from egeunet.export.groups import gather_groups, spread_groups
from egeunet.export.lean_bridge import LeanBridge, layer_norm
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.layers import GHPA, ChannelLayerNorm, DepthwiseSeparable

Array = NDArray[np.float32]
#: Below this a gamma is not divided by; its LayerNorm keeps MUL and ADD.
_SMALLEST_GAMMA = 1e-3
#: Maps of so many pixels are averaged in two steps and, but for the first, not centred.
_LARGE_PIXELS = 64 * 64


def build_lean_graph(model: EGEUNet, contract: ModelContract, optimize: str = "speed") -> Graph:
    """Like :func:`egeunet.export.deploy.build_deploy_graph`, of primitive operators only."""
    builder = new_builder(model, contract)
    with torch.no_grad():
        logits = LeanTranslator(builder, optimize).network(model, builder.input)
    return builder.finish(builder.elementwise("sigmoid", logits))


class LeanTranslator(LeanBridge):
    """Overrides the parts of the network that have norms in them."""

    #: Encoder 4's at 256 x 256: 22 KB of float32 for 0.3 M of 79.7 M instructions.
    large_gate: float = 6144

    def down(self, block: nn.Module, norm: nn.GroupNorm, x: str) -> str:
        """Block, GroupNorm, max-pool and GELU."""
        return self.b.elementwise("gelu", self.normed_and_pooled(block, norm, x))

    def normed_and_pooled(self, block: nn.Module, norm: nn.GroupNorm, x: str) -> str:
        """Block, GroupNorm and max-pool with the sign of gamma absorbed."""
        gamma = as_array(norm.weight)
        sign = np.where(gamma < 0, -1, 1).astype(np.float32)
        x = self.block(block, x, sign)
        return self.group_affine(norm, x, self.b.max_pool(x), sign)

    def up(self, block: nn.Module, norm: nn.GroupNorm, x: str, scale: int) -> str:
        """Block, GroupNorm, resize and GELU; the affine comes before the resize, where maps
        are smaller (interpolation weights sum to one, so the two commute)."""
        b, x = self.b, self.normed(block, norm, x)
        return b.elementwise("gelu", b.resize(x, scale * b.shape(x)[1], scale * b.shape(x)[2]))

    def normed(self, block: nn.Module, norm: nn.GroupNorm, x: str) -> str:
        """Block and GroupNorm."""
        x = self.block(block, x)
        return self.group_affine(norm, x, x, np.ones(norm.num_channels, np.float32))

    def group_affine(
        self, norm: nn.GroupNorm, x: str, target: str, sign: Array, bias: Array | None = None
    ) -> str:
        """GroupNorm of ``target`` with the statistics of ``x``, both flipped by ``sign`` and
        both still without ``bias`` (flipped, too)."""
        b = self.b
        with b.within("group_norm"):
            channels, groups = norm.num_channels, norm.num_groups
            gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
            gamma, beta = as_array(norm.weight), as_array(norm.bias)
            column, none = (-1, 1, 1, 1), np.zeros(channels, np.float32)
            first = mean = self.average(x)
            if bias is not None:
                mean = b.add(first, b.constant(bias.reshape(1, 1, 1, -1)))
            mean = b.conv2d(mean, gather * sign, none[:groups])
            # What each channel of x loses: its group's mean, flipped, without the bias.
            centre = b.conv2d(mean, spread * sign.reshape(column), none if bias is None else -bias)
            centred = b.sub(x, self.row(centre, x)) if self.centres(x) else None
            eps = np.full(groups, norm.eps, np.float32)
            if centred is not None:
                variance = b.conv2d(self.average(b.mul(centred, centred)), gather, eps)
                deviation = b.elementwise("rsqrt", variance)
            else:
                square = b.conv2d(self.average_square(x, first, bias), gather, eps)
                deviation = self.deviation(square, mean, norm.eps)
            factor = b.conv2d(deviation, spread * (gamma * sign).reshape(column), none)
            offset = b.constant(beta.reshape(1, 1, 1, -1))
            if centred is not None and target == x:
                target = centred
            else:
                offset = b.sub(offset, b.mul(factor, centre))
            return self.affine(target, factor, offset)

    def centres(self, x: str) -> bool:
        """Whether a GroupNorm centres ``x`` before it squares it.

        It costs a pass over the map, which is little on a small one. The first must: a flat
        picture leaves it a mean of forty deviations. Behind it nothing is as flat.
        """
        height, width = self.b.shape(x)[1:3]
        source = next((node.inputs[0] for node in self.b.nodes if node.output == x), x)
        return height * width < _LARGE_PIXELS or source == self.b.input

    def average(self, x: str) -> str:
        """The mean over all pixels, (1, 1, 1, C).

        LiteRT adds one number after another, so that a sum of 256 x 256 keeps three of seven
        digits and two sums of 256 nearly all; and sums over columns fill its kernel's lanes.
        """
        b, (_, height, width, _) = self.b, self.b.shape(x)
        large = height * width >= _LARGE_PIXELS
        return b.mean(b.mean(x, (1,)), (2,)) if large else b.mean(x, (1, 2))

    def average_square(self, x: str, mean: str, bias: Array | None) -> str:
        """The mean of (x + bias)^2 over all pixels, (1, 1, 1, C), where ``mean`` is that of x."""
        b, square = self.b, self.average(self.b.mul(x, x))
        if bias is None:
            return square
        shift = b.constant(bias.reshape(1, 1, 1, -1))  # E[x^2] + c (E[x] + E[x + c])
        return b.add(square, b.mul(b.add(mean, b.add(mean, shift)), shift))

    def affine(self, x: str, factor: str, offset: str) -> str:
        """factor * x + offset; both (1, 1, 1, C)."""
        return self.b.add(self.b.mul(x, self.row(factor, x)), self.row(offset, x))

    def block(self, module: nn.Module, x: str, sign: Array | None = None) -> str:
        """A GHPA, or what an ablation has in its place; ``sign`` flips output channels."""
        if isinstance(module, GHPA):
            return self.ghpa(module, x, sign)
        if isinstance(module, DepthwiseSeparable):
            x = self.b.elementwise("gelu", self.conv(module.ldw[0], x))
            return self.conv(module.ldw[2], x, sign)
        assert isinstance(module, nn.Conv2d)
        return self.conv(module, x, sign)

    def conv(
        self,
        module: nn.Module,
        x: str,
        sign: Array | None = None,
        input_scale: Array | None = None,
    ) -> str:
        """A convolution of ``x * input_scale``, times ``sign`` per output."""
        weight, bias, dilation = convolution_arrays(module)
        if input_scale is not None:
            weight = weight * input_scale
        if sign is not None:
            assert dilation is None
            weight, bias = weight * sign.reshape(-1, 1, 1, 1), bias * sign
        if dilation is None:
            return self.b.conv2d(x, weight, bias)
        return self.b.depthwise_conv2d(x, weight, bias, dilation)

    def ghpa(self, module: GHPA, x: str, sign: Array | None = None) -> str:
        b = self.b
        height, width, channels = b.shape(x)[1:]
        x, gamma = self.scaled_norm(module.norm1, x)
        parts = b.split(x, 4)
        gates = self.gates(module, height, width, gamma)
        mixed = [b.mul(part, gate) for part, gate in zip(parts[:3], gates, strict=True)]
        last = self.conv(module.dw[0], parts[3], input_scale=gamma[3 * (channels // 4) :])
        mixed.append(self.conv(module.dw[2], b.elementwise("gelu", last)))
        return self.last_layers(module, b.concat(mixed), sign)

    def last_layers(self, module: GHPA, x: str, sign: Array | None) -> str:
        """A GHPA from its second norm on."""
        x, gamma = self.scaled_norm(module.norm2, x)
        x = self.b.elementwise("gelu", self.conv(module.ldw[0], x, input_scale=gamma))
        return self.conv(module.ldw[2], x, sign)

    def unscaled_norm(self, norm: ChannelLayerNorm, x: str, kept: Array) -> str:
        """LayerNorm without beta, times ``kept`` in place of gamma."""
        with self.b.within("layer_norm"):
            return self.times_deviation(self.centred(x, 1), 1, kept, norm.eps)

    def scaled_norm(self, norm: nn.Module, x: str) -> tuple[str, Array]:
        """LayerNorm divided by the vector it returns, which the next operator takes over."""
        norm, b = layer_norm(norm), self.b
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        foldable = np.abs(gamma).min() > _SMALLEST_GAMMA
        normed = self.unscaled_norm(norm, x, np.ones_like(gamma) if foldable else gamma)
        with b.within("layer_norm"):
            normed = b.add(normed, self.row(beta / gamma if foldable else beta, normed))
        return normed, gamma if foldable else np.ones_like(gamma)
