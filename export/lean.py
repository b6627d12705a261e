"""The deploy form for runtimes without norm kernels: norms dissolved into their neighbours.

Same function as :mod:`egeunet.export.deploy`, from the same reference, in a third of the
operators that lowering each norm on its own would take. The rewrites, all exact in real
arithmetic (tests/unit/test_lean.py bounds the rounding):

- *sign absorption*: GroupNorm's affine a * x + b moves behind the max-pool, where it costs a
  quarter; max-pooling commutes with it for a >= 0, so the sign of gamma goes into the
  convolution before (and into the group means, which see the flipped channels)
- *moments*: a GroupNorm's variance is E[x^2] - E[x]^2 of vectors, floored at zero, so that
  no full-size centred map is needed
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
from egeunet.model.layers import GHPA, DepthwiseSeparable

Array = NDArray[np.float32]
#: Below this a gamma is not divided by; its LayerNorm keeps MUL and ADD.
_SMALLEST_GAMMA = 1e-3


def build_lean_graph(model: EGEUNet, contract: ModelContract, optimize: str = "speed") -> Graph:
    """Like :func:`egeunet.export.deploy.build_deploy_graph`, of primitive operators only."""
    builder = new_builder(model, contract)
    with torch.no_grad():
        logits = LeanTranslator(builder, optimize).network(model, builder.input)
    return builder.finish(builder.elementwise("sigmoid", logits))


class LeanTranslator(LeanBridge):
    """Overrides the parts of the network that have norms in them."""

    def down(self, block: nn.Module, norm: nn.GroupNorm, x: str) -> str:
        """Block, GroupNorm, max-pool and GELU with the sign of gamma absorbed."""
        gamma = as_array(norm.weight)
        sign = np.where(gamma < 0, -1, 1).astype(np.float32)
        x = self.block(block, x, sign)
        return self.b.elementwise("gelu", self.group_affine(norm, x, self.b.max_pool(x), sign))

    def up(self, block: nn.Module, norm: nn.GroupNorm, x: str, scale: int) -> str:
        """Block, GroupNorm, resize and GELU; the affine comes before the resize, where maps
        are smaller (interpolation weights sum to one, so the two commute)."""
        b = self.b
        x = self.block(block, x)
        x = self.group_affine(norm, x, x, np.ones(norm.num_channels, np.float32))
        return b.elementwise("gelu", b.resize(x, scale * b.shape(x)[1], scale * b.shape(x)[2]))

    def group_affine(
        self, norm: nn.GroupNorm, x: str, target: str, sign: Array, bias: Array | None = None
    ) -> str:
        """GroupNorm of ``target`` with the statistics of ``x``, both flipped by ``sign`` and
        both still without ``bias`` (flipped, too)."""
        b = self.b
        outer, b.scope = b.scope, f"{b.scope}/group_norm"
        channels, groups = norm.num_channels, norm.num_groups
        gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        eps, none = np.full(groups, norm.eps, np.float32), np.zeros(channels, np.float32)
        first, second = b.mean(x, (1, 2)), b.mean(b.mul(x, x), (1, 2))
        shift = None if bias is None else b.constant(bias.reshape(1, 1, 1, -1))
        if shift is not None:  # E[(x + c)^2] = E[x^2] + c (E[x] + E[x + c])
            shifted = b.add(first, shift)
            second = b.add(second, b.mul(b.add(first, shifted), shift))
            first = shifted
        mean = b.conv2d(first, gather * sign, none[:groups])
        square = b.conv2d(second, gather, eps)
        deviation = self.deviation(square, mean, norm.eps)
        column = (-1, 1, 1, 1)
        factor = b.conv2d(deviation, spread * (gamma * sign).reshape(column), none)
        offset = b.conv2d(b.mul(mean, deviation), spread * -gamma.reshape(column), beta)
        if shift is not None:
            offset = b.add(offset, b.mul(factor, shift))
        result = self.affine(target, factor, offset)
        b.scope = outer
        return result

    def affine(self, x: str, factor: str, offset: str) -> str:
        """factor * x + offset; both (1, 1, 1, C), known when the file is run."""
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
        x, gamma = self.scaled_norm(module.norm2, b.concat(mixed))
        x = b.elementwise("gelu", self.conv(module.ldw[0], x, input_scale=gamma))
        return self.conv(module.ldw[2], x, sign)

    def scaled_norm(self, norm: nn.Module, x: str) -> tuple[str, Array]:
        """LayerNorm divided by the vector it returns, which the next operator takes over."""
        norm, b = layer_norm(norm), self.b
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        outer, b.scope = b.scope, f"{b.scope}/layer_norm"
        centred = self.centred(x, 1)
        foldable = np.abs(gamma).min() > _SMALLEST_GAMMA
        kept = np.ones_like(gamma) if foldable else gamma
        normed = self.times_deviation(centred, 1, kept, norm.eps)
        normed = b.add(normed, self.row(beta / gamma if foldable else beta, normed))
        b.scope = outer
        return normed, gamma if foldable else np.ones_like(gamma)
