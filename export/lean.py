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
- *filled lanes*: channels are filled up to multiples of eight where kernels work in eights
  (zeros in, zeros out, not counted in any mean)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import Translator, as_array, convolution_arrays, new_builder
from egeunet.export.graph import Graph
from egeunet.export.groups import gather_groups, mean_kernel, spread_groups
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.layers import DILATIONS, GAB, GHPA, ChannelLayerNorm

Array = NDArray[np.float32]
#: Below this a gamma is not divided by; its LayerNorm keeps MUL and ADD.
_SMALLEST_GAMMA = 1e-3
#: Maps of so many pixels get gather-project-centre, whose matrices cost bytes; smaller ones a
#: concatenation, which costs time per pixel.
_GATHER_PIXELS = {"speed": 32 * 32, "size": 128 * 128}
#: Output channels that fill the matrix kernels of phones' runtimes: other counts run in kernels
#: of two, at more than twice the instructions.
_LANES = 8


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
        factor = b.conv2d(deviation, spread * (gamma * sign).reshape(column), none)
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

    def times_deviation(
        self, centred: str, groups: int, gamma: Array, eps: float, real: Array | None = None
    ) -> str:
        """gamma * centred / sigma, where each of ``groups`` runs of channels has a sigma.

        ``real`` is 0 for channels that only fill up a run (see :data:`_LANES`), else 1.
        """
        b, channels = self.b, len(gamma)
        real = np.ones(channels, np.float32) if real is None else real
        square = b.mul(centred, centred)
        if groups == 1:
            variance = b.conv2d(square, mean_kernel(real, 1), np.full(1, eps, np.float32))
            normed = b.mul(centred, b.elementwise("rsqrt", variance))
            return normed if (gamma == 1).all() else b.mul(normed, b.constant(gamma))
        # Filled up to full lanes with variances of one, which nobody reads.
        lanes = _LANES if len(real) % _LANES == 0 else groups
        gather = np.zeros((lanes, 1, 1, channels), np.float32)
        gather[:groups] = mean_kernel(real, groups)
        floor = np.ones(lanes, np.float32)
        floor[:groups] = eps
        spread = np.zeros((channels, 1, 1, lanes), np.float32)
        spread[..., :groups] = spread_groups(channels, groups) * gamma.reshape(-1, 1, 1, 1)
        deviation = b.elementwise("rsqrt", b.conv2d(square, gather, floor))
        return b.mul(centred, b.conv2d(deviation, spread, np.zeros(channels, np.float32)))

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        b, groups = self.b, len(DILATIONS)
        norms = [_layer_norm(branch[0]) for branch in module.groups]
        group = slot = len(norms[0].weight)
        if b.shape(skip)[1] * b.shape(skip)[2] >= _GATHER_PIXELS[self.optimize]:
            slot = group + group % 2  # four even runs are a multiple of eight channels
            centred = self.gather_project_centre(module, deep, skip, x, mask, slot)
        else:
            centred = self.centred(self.joined(module, deep, skip, x, mask), groups)
        fill = (0, slot - group)
        gamma = np.concatenate([np.pad(as_array(norm.weight), fill) for norm in norms])
        beta = np.concatenate([np.pad(as_array(norm.bias), fill) for norm in norms])
        real = np.tile(np.arange(slot) < group, groups).astype(np.float32)
        outer, b.scope = b.scope, f"{b.scope}/layer_norm"
        normed = self.times_deviation(centred, groups, gamma, norms[0].eps, real)
        normed = b.add(normed, b.constant(beta))
        b.scope = outer
        mixed = []
        for branch, part in zip(module.groups, b.split(normed, groups), strict=True):
            weight, bias, dilation = convolution_arrays(branch[1])
            assert dilation is not None
            weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), fill))
            mixed.append(b.depthwise_conv2d(part, weight, np.pad(bias, fill), dilation))
        return self.tail(module, b.concat(mixed), real)

    def tail(self, module: GAB, mixed: str, real: Array) -> str:
        """LayerNorm and 1x1 convolution that end a GAB; nothing pads the latter, so the whole
        affine goes into it, spread over the channels that are ``real``."""
        b = self.b
        norm, conv = _layer_norm(module.tail_conv[0]), module.tail_conv[1]
        outer, b.scope = b.scope, f"{b.scope}/layer_norm"
        centred = self.centred(mixed, 1, real)
        ones = np.ones(len(real), np.float32)
        normed = self.times_deviation(centred, 1, ones, norm.eps, real)
        b.scope = outer
        weight, bias, _ = convolution_arrays(conv)
        scaled = np.zeros((len(bias), 1, 1, len(real)), np.float32)
        scaled[..., real > 0] = weight * as_array(norm.weight)
        return b.conv2d(normed, scaled, bias + weight[:, 0, 0, :] @ as_array(norm.bias))

    def joined(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        """The inputs of the four group LayerNorms side by side, by concatenation: one per
        group and one of all, as runtimes for phones take five inputs at most."""
        b, groups = self.b, len(DILATIONS)
        guide = [] if mask is None else [self.conv(mask, x)]
        deep = b.resize(self.conv(module.pre_project, deep), *b.shape(skip)[1:3])
        pairs = zip(b.split(deep, groups), b.split(skip, groups), strict=True)
        return b.concat([b.concat([*pair, *guide]) for pair in pairs])

    def centred(self, x: str, groups: int, real: Array | None = None) -> str:
        """Each of ``groups`` runs of channels minus the mean of its real ones at every pixel."""
        b, channels = self.b, self.b.shape(x)[3]
        real = np.ones(channels, np.float32) if real is None else real
        mean = b.conv2d(x, mean_kernel(real, groups), np.zeros(groups, np.float32))
        if groups > 1:
            spread = spread_groups(channels, groups)
            mean = b.conv2d(mean, spread, np.zeros(channels, np.float32))
        return b.sub(x, mean)

    def gather_project_centre(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None, slot: int
    ) -> str:
        """The inputs of the four group LayerNorms side by side, each minus its mean, each
        group filled up with zeros to ``slot`` channels."""
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
        runs = (blocks @ select).astype(np.float32).reshape(len(DILATIONS), group, -1)
        runs = np.pad(runs, ((0, 0), (0, slot - group), (0, 0)))
        centre = runs.reshape(-1, select.shape[1])
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
