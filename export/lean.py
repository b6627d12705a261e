"""The deploy form for runtimes without norm kernels: norms dissolved into their neighbours.

Same function as :mod:`egeunet.export.deploy`, from the same reference, in a third of the
operators that lowering each norm on its own would take. The rewrites, all exact in real
arithmetic (tests/unit/test_lean.py bounds the rounding):

- *sign absorption*: GroupNorm's affine a * x + b moves behind the max-pool, where it costs a
  quarter; max-pooling commutes with it for a >= 0, so the sign of gamma goes into the
  convolution before (and into the group means, which see the flipped channels)
- *moments*: a GroupNorm's variance is E[x^2] - E[x]^2 of vectors, floored at zero, so that
  no full-size centred map is needed
- *gather-project-centre*: what a GAB feeds its four group LayerNorms, centred, is linear in
  the deep map, the skip map and the decoder map (through the mask): one 1x1 convolution of
  each, the deep one before the resize, instead of 12 slices, 4 concatenations, the mask
  convolution and 4 mean subtractions
- *gamma folding*: a LayerNorm's gamma goes into what multiplies its result anyway; with zero
  padding behind it beta stays, as beta / gamma before or beta after
- *broadcast by convolution*: 1 / sigma is spread to all channels by a 1x1 convolution, as
  runtimes broadcast along channels pixel by pixel
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import Translator, as_array, convolution_arrays, new_builder
from egeunet.export.graph import Graph
from egeunet.export.norms import gather_groups, spread_groups
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.layers import DILATIONS, GAB, GHPA, ChannelLayerNorm

Array = NDArray[np.float32]
#: Below this a gamma is not divided by; its LayerNorm keeps MUL and ADD.
_SMALLEST_GAMMA = 1e-3
#: Maps of so many pixels get gather-project-centre, whose matrices cost bytes; smaller ones a
#: concatenation, which costs time per pixel.
_GATHER_PIXELS = {"speed": 64 * 64, "size": 128 * 128}


def build_lean_graph(model: EGEUNet, contract: ModelContract, optimize: str = "speed") -> Graph:
    """Like :func:`egeunet.export.deploy.build_deploy_graph`, of primitive operators only."""
    builder = new_builder(model, contract)
    with torch.no_grad():
        logits = LeanTranslator(builder, optimize).network(model, builder.input)
    return builder.finish(builder.elementwise("sigmoid", logits))


class LeanTranslator(Translator):
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

    def group_affine(self, norm: nn.GroupNorm, x: str, target: str, sign: Array) -> str:
        """GroupNorm of ``target`` with the statistics of ``x``, both flipped by ``sign``."""
        b = self.b
        outer, b.scope = b.scope, f"{b.scope}/group_norm"
        channels, groups = norm.num_channels, norm.num_groups
        gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        eps, none = np.full(groups, norm.eps, np.float32), np.zeros(channels, np.float32)
        mean = b.conv2d(b.mean(x, (1, 2)), gather * sign, none[:groups])
        square = b.conv2d(b.mean(b.mul(x, x), (1, 2)), gather, eps)
        # Rounding may leave a uniform map a variance below zero: the floor is epsilon.
        variance = b.maximum(b.sub(square, b.mul(mean, mean)), b.constant(eps))
        deviation = b.elementwise("rsqrt", variance)
        column = (-1, 1, 1, 1)
        factor = b.conv2d(deviation, spread * np.abs(gamma).reshape(column), none)
        offset = b.conv2d(b.mul(mean, deviation), spread * -gamma.reshape(column), beta)
        result = b.add(b.mul(target, factor), offset)
        b.scope = outer
        return result

    def block(self, module: nn.Module, x: str, sign: Array | None = None) -> str:
        """A plain 3x3 convolution or a GHPA; ``sign`` flips output channels."""
        if isinstance(module, GHPA):
            return self.ghpa(module, x, sign)
        assert isinstance(module, nn.Conv2d)
        return self.conv(module, x, sign)

    def conv(
        self,
        module: nn.Module,
        x: str,
        sign: Array | None = None,
        input_scale: Array | None = None,
        input_offset: Array | None = None,
    ) -> str:
        """A convolution of ``x * input_scale + input_offset``, times ``sign`` per output.

        The offset is for 1x1 convolutions: zero padding would see it, too.
        """
        weight, bias, dilation = convolution_arrays(module)
        if input_offset is not None:
            assert dilation is None and weight.shape[1:3] == (1, 1)
            bias = bias + weight[:, 0, 0, :] @ input_offset
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
        norm, b = _layer_norm(norm), self.b
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        outer, b.scope = b.scope, f"{b.scope}/layer_norm"
        centred = self.centred(x, 1)
        foldable = np.abs(gamma).min() > _SMALLEST_GAMMA
        kept = np.ones_like(gamma) if foldable else gamma
        normed = self.times_deviation(centred, 1, kept, norm.eps)
        normed = b.add(normed, b.constant(beta / gamma if foldable else beta))
        b.scope = outer
        return normed, gamma if foldable else np.ones_like(gamma)

    def times_deviation(self, centred: str, groups: int, gamma: Array, eps: float) -> str:
        """gamma * centred / sigma, where each of ``groups`` runs of channels has a sigma."""
        b, channels = self.b, len(gamma)
        gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
        square = b.mul(centred, centred)
        variance = b.conv2d(square, gather, np.full(groups, eps, np.float32))
        factor = b.conv2d(
            b.elementwise("rsqrt", variance),
            spread * gamma.reshape(-1, 1, 1, 1),
            np.zeros(channels, np.float32),
        )
        return b.mul(centred, factor)

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        b = self.b
        norms = [_layer_norm(branch[0]) for branch in module.groups]
        gamma = np.concatenate([as_array(norm.weight) for norm in norms])
        beta = np.concatenate([as_array(norm.bias) for norm in norms])
        if b.shape(skip)[1] * b.shape(skip)[2] >= _GATHER_PIXELS[self.optimize]:
            centred = self.gather_project_centre(module, deep, skip, x, mask)
        else:
            centred = self.centred(self.joined(module, deep, skip, x, mask), len(norms))
        outer, b.scope = b.scope, f"{b.scope}/layer_norm"
        normed = self.times_deviation(centred, len(norms), gamma, norms[0].eps)
        normed = b.add(normed, b.constant(beta))
        b.scope = outer
        parts = b.split(normed, len(norms))
        branches = zip(module.groups, parts, strict=True)
        mixed = b.concat([self.conv(branch[1], part) for branch, part in branches])
        # Nothing pads the tail's 1x1 convolution, so the whole affine goes into it.
        norm, conv = module.tail_conv
        norm = _layer_norm(norm)
        ones = np.ones(b.shape(mixed)[3], np.float32)
        b.scope = f"{outer}/layer_norm"
        normed = self.times_deviation(self.centred(mixed, 1), 1, ones, norm.eps)
        b.scope = outer
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        return self.conv(conv, normed, input_scale=gamma, input_offset=beta)

    def joined(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        """The inputs of the four group LayerNorms side by side, by one concatenation."""
        b, groups = self.b, len(DILATIONS)
        guide = [] if mask is None else [self.conv(mask, x)]
        deep = b.resize(self.conv(module.pre_project, deep), *b.shape(skip)[1:3])
        pairs = zip(b.split(deep, groups), b.split(skip, groups), strict=True)
        return b.concat([part for pair in pairs for part in (*pair, *guide)])

    def centred(self, x: str, groups: int) -> str:
        """Each of ``groups`` runs of channels minus its mean at every pixel."""
        b, channels = self.b, self.b.shape(x)[3]
        if groups == 1:
            return b.sub(x, b.mean(x, (3,)))
        mean = b.conv2d(x, gather_groups(channels, groups), np.zeros(groups, np.float32))
        spread = spread_groups(channels, groups)
        return b.sub(x, b.conv2d(mean, spread, np.zeros(channels, np.float32)))

    def gather_project_centre(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> str:
        """The inputs of the four group LayerNorms side by side, each minus its mean."""
        b = self.b
        channels = b.shape(skip)[3]
        run = channels // len(DILATIONS)
        group = 2 * run + (mask is not None)
        # Rows of the concatenated groups; columns: deep channels, skip channels, mask.
        select = np.zeros((len(DILATIONS) * group, 2 * channels + 1), np.float32)
        for index in range(len(DILATIONS)):
            row, column = index * group, index * run
            select[row : row + run, column : column + run] = np.eye(run)
            row += run
            select[row : row + run, channels + column : channels + column + run] = np.eye(run)
            if mask is not None:
                select[row + run, -1] = 1
        blocks = np.kron(np.eye(len(DILATIONS)), np.eye(group) - 1 / group)
        centre = (blocks @ select).astype(np.float32)
        of_deep, of_skip, of_mask = np.split(centre, (channels, 2 * channels), axis=1)
        project = module.pre_project
        assert project.bias is not None
        lifted = self.mix(deep, of_deep @ _matrix(project), of_deep @ as_array(project.bias))
        lifted = b.resize(lifted, *b.shape(skip)[1:3])
        total = b.add(lifted, self.mix(skip, of_skip, np.zeros(len(centre), np.float32)))
        if mask is None:
            return total
        assert mask.bias is not None
        guide = self.mix(x, of_mask @ _matrix(mask), of_mask @ as_array(mask.bias))
        return b.add(total, guide)

    def mix(self, x: str, matrix: Array, bias: Array) -> str:
        """A 1x1 convolution by a matrix (outputs, inputs)."""
        return self.b.conv2d(x, np.ascontiguousarray(matrix[:, None, None, :]), bias)


def _layer_norm(module: nn.Module) -> ChannelLayerNorm:
    assert isinstance(module, ChannelLayerNorm)
    return module


def _matrix(conv: nn.Conv2d) -> Array:
    return as_array(conv.weight)[:, :, 0, 0]
