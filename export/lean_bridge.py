"""Group Aggregation Bridges without norm operators; the other half of lean.py.

Exact in real arithmetic (tests/unit/test_lean_bridges.py bounds the rounding):

- *gather-project-centre*: what a GAB feeds its four group LayerNorms, centred, is linear in
  the deep map, the skip map and the mask logits: one 1x1 convolution of each map, the deep one
  before the resize, and the mask times a vector, instead of 12 slices, 4 concatenations and
  4 mean subtractions
- *filled lanes*: channels are filled up to multiples of eight where kernels work in eights
  (zeros in, zeros out, not counted in any mean)
- *moments*: what the last LayerNorm does before its 1x1 convolution is linear but for the
  deviation, so the convolution takes the centring over and the deviation comes behind it,
  on fewer channels; the variance is E[x^2] - E[x]^2
- *sums instead of concatenation*: where the result has one channel (GAB1 behind ``final``) the
  three moments are sums over the four groups, lane by lane
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import Translator, as_array, behind, convolution_arrays
from egeunet.export.groups import mean_kernel, spread_groups
from egeunet.model.layers import DILATIONS, GAB, ChannelLayerNorm

Array = NDArray[np.float32]
#: Maps of so many pixels get gather-project-centre, whose matrices cost bytes; smaller ones a
#: concatenation, which costs time per pixel.
_GATHER_PIXELS = {"speed": 32 * 32, "size": 128 * 128}
#: Maps of so many pixels get their vectors row by row: broadcast along pixels a vector costs
#: runtimes for phones a call a pixel, and the operator that repeats it some 120 bytes.
_ROW_PIXELS = {"speed": 32 * 32, "size": 128 * 128}


class LeanBridge(Translator):
    """Overrides the bridges, and has what they share with the other norms."""

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        mixed, real = self.mixed(module, deep, skip, x, mask)
        kernel, bias, _ = convolution_arrays(module.tail_conv[1])
        return self.tail(layer_norm(module.tail_conv[0]), mixed, np.tile(real, 4), kernel, bias)

    def bridge_logits(
        self, module: GAB, final: nn.Conv2d, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> str:
        mixed, real = self.mixed(module, deep, skip, x, mask)
        norm = layer_norm(module.tail_conv[0])
        kernel, bias = behind(module.tail_conv[1], final)
        if len(bias) == 1:
            return self.summed_tail(norm, mixed, real, kernel[0, 0, 0], bias)
        return self.tail(norm, mixed, np.tile(real, len(mixed)), kernel, bias)

    def mixed(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> tuple[list[str], Array]:
        """The results of the four dilated convolutions, and which of a result's channels are
        ``real``: 1, or 0 for one that fills up."""
        b, groups = self.b, len(DILATIONS)
        norms = [layer_norm(branch[0]) for branch in module.groups]
        group = slot = len(norms[0].weight)
        pixels = b.shape(skip)[1] * b.shape(skip)[2]
        if pixels >= _GATHER_PIXELS[self.optimize]:
            slot = group + group % 2  # four even runs are a multiple of eight channels
            centred = self.gather_project_centre(module, deep, skip, x, mask, slot)
        else:
            centred = self.centred(self.joined(module, deep, skip, x, mask), groups)
        fill = (0, slot - group)
        gamma = np.concatenate([np.pad(as_array(norm.weight), fill) for norm in norms])
        beta = np.concatenate([np.pad(as_array(norm.bias), fill) for norm in norms])
        real = (np.arange(slot) < group).astype(np.float32)
        with b.within("layer_norm"):
            normed = self.times_deviation(
                centred, groups, gamma, norms[0].eps, np.tile(real, groups)
            )
            normed = b.add(normed, self.row(beta, normed))
        mixed = []
        for branch, part in zip(module.groups, b.split(normed, groups), strict=True):
            weight, bias, dilation = convolution_arrays(branch[1])
            assert dilation is not None
            weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), fill))
            mixed.append(b.depthwise_conv2d(part, weight, np.pad(bias, fill), dilation))
        return mixed, real

    def tail(
        self, norm: ChannelLayerNorm, parts: list[str], real: Array, kernel: Array, bias: Array
    ) -> str:
        """LayerNorm of the concatenated ``parts`` and the 1x1 convolution behind it; nothing
        pads the latter, so the whole affine goes into it."""
        b = self.b
        with b.within("layer_norm"):
            mixed = b.concat(parts)
            scaled, constant = _centring(norm, real, kernel, bias)
            gather, none = mean_kernel(real, 1), np.zeros(1, np.float32)
            mean = b.conv2d(mixed, gather, none)
            square = b.conv2d(b.mul(mixed, mixed), gather, np.full(1, norm.eps, np.float32))
            deviation = self.deviation(square, mean, norm.eps)
        projected = b.conv2d(mixed, scaled, np.zeros(len(bias), np.float32))
        projected = b.mul(projected, deviation)
        return b.add(projected, self.row(constant, projected))

    def summed_tail(
        self, norm: ChannelLayerNorm, parts: list[str], real: Array, weight: Array, bias: Array
    ) -> str:
        """:meth:`tail` for one output, ``weight`` (channels,), without the concatenation."""
        b, groups = self.b, len(parts)
        with b.within("layer_norm"):
            everywhere = np.tile(real, groups)
            scaled, constant = _centring(norm, everywhere, weight[None, None, None], bias)
            one, none = np.ones((1, 1, 1, len(real)), np.float32), np.zeros(1, np.float32)
            gather = one * real / everywhere.sum()
            mean = b.conv2d(self.total(parts), gather, none)
            squares = self.total([b.mul(part, part) for part in parts])
            square = b.conv2d(squares, gather, np.full(1, norm.eps, np.float32))
            deviation = self.deviation(square, mean, norm.eps)
        weights = b.split(self.row(scaled[0, 0, 0], parts[0]), groups)
        weighted = [b.mul(part, factor) for part, factor in zip(parts, weights, strict=True)]
        projected = b.conv2d(self.total(weighted), one, none)
        return b.add(b.mul(projected, deviation), b.constant(constant))

    def deviation(self, square: str, mean: str, eps: float) -> str:
        """1 / sqrt(variance + eps) of E[x^2] + eps and E[x]; rounding may leave a uniform
        pixel a variance below zero, so the floor is epsilon."""
        b = self.b
        variance = b.sub(square, b.mul(mean, mean))
        floor = b.constant(np.full(b.shape(variance)[3], eps, np.float32))
        return b.elementwise("rsqrt", b.maximum(variance, floor))

    def total(self, parts: list[str]) -> str:
        """The sum of all parts."""
        result, *others = parts
        for part in others:
            result = self.b.add(result, part)
        return result

    def row(self, vector: Array | str, like: str) -> str:
        """A vector (C,), or a value (1, 1, 1, C), as what broadcasts over ``like`` with the
        fewest calls; a bilinear enlargement of one pixel repeats it exactly."""
        b = self.b
        height, width = b.shape(like)[1:3]
        if not isinstance(vector, str):
            vector = b.constant(vector.reshape(1, 1, 1, -1))
        large = height * width >= _ROW_PIXELS[self.optimize]
        return b.resize(vector, 1, width) if large else vector

    def times_deviation(
        self, centred: str, groups: int, gamma: Array, eps: float, real: Array | None = None
    ) -> str:
        """gamma * centred / sigma, where each of ``groups`` runs of channels has a sigma.

        ``real`` is 0 for channels that only fill up a run, else 1.
        """
        b, channels = self.b, len(gamma)
        real = np.ones(channels, np.float32) if real is None else real
        deviation = self.inverse_root(centred, mean_kernel(real, groups), eps)
        if groups == 1:
            normed = b.mul(centred, deviation)
            return normed if (gamma == 1).all() else b.mul(normed, b.constant(gamma))
        spread = spread_groups(channels, groups) * gamma.reshape(-1, 1, 1, 1)
        return b.mul(centred, b.conv2d(deviation, spread, np.zeros(channels, np.float32)))

    def inverse_root(self, x: str, kernel: Array, eps: float) -> str:
        """1 / sqrt(kernel x^2 + eps) for a 1x1 kernel (outputs, 1, 1, C)."""
        b, floor = self.b, np.full(len(kernel), eps, np.float32)
        return b.elementwise("rsqrt", b.conv2d(b.mul(x, x), kernel, floor))

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
        of_deep, of_skip, of_mask = gathering(b.shape(skip)[3], mask is not None, slot)
        project = module.pre_project
        assert project.bias is not None
        lifted = self.mix(deep, of_deep @ _matrix(project), of_deep @ as_array(project.bias))
        lifted = b.resize(lifted, *b.shape(skip)[1:3])
        total = b.add(lifted, self.mix(skip, of_skip, np.zeros(len(of_skip), np.float32)))
        if mask is None:
            return total
        guide = b.mul(self.conv(mask, x), b.constant(of_mask[:, 0].copy()))
        return b.add(total, guide)

    def mix(self, x: str, matrix: Array, bias: Array) -> str:
        """A 1x1 convolution by a matrix (outputs, inputs)."""
        return self.b.conv2d(x, np.ascontiguousarray(matrix[:, None, None, :]), bias)


def gathering(channels: int, guided: bool, slot: int) -> tuple[Array, Array, Array]:
    """What makes the four centred groups, each of ``slot`` channels, of a GAB's inputs.

    Returns matrices (4 slot, inputs) for the projected deep map and the skip map, both of
    ``channels``, and for the mask logits.
    """
    run = channels // len(DILATIONS)
    group = 2 * run + guided
    centre = np.eye(group) - 1 / group
    matrix = np.zeros((len(DILATIONS), slot, 2 * channels + 1), np.float32)
    for index in range(len(DILATIONS)):
        column = index * run
        matrix[index, :group, column : column + run] = centre[:, :run]
        column += channels
        matrix[index, :group, column : column + run] = centre[:, run : 2 * run]
        if guided:
            matrix[index, :group, -1] = centre[:, -1]
    of_deep, of_skip, of_mask = np.split(
        matrix.reshape(-1, 2 * channels + 1), (channels, 2 * channels), axis=1
    )
    return of_deep, of_skip, of_mask


def layer_norm(module: nn.Module) -> ChannelLayerNorm:
    """``module``, known to be one."""
    assert isinstance(module, ChannelLayerNorm)
    return module


def _centring(
    norm: ChannelLayerNorm, real: Array, kernel: Array, bias: Array
) -> tuple[Array, Array]:
    """A 1x1 convolution behind a LayerNorm as one of its input, spread over the channels that
    are ``real``, still to be divided by the deviation; and the constant to be added then."""
    weight = kernel[:, 0, 0].astype(np.float64)
    scaled = weight * as_array(norm.weight)
    centred = np.zeros((len(kernel), 1, 1, len(real)), np.float32)
    centred[:, 0, 0, real > 0] = scaled - scaled.mean(1, keepdims=True)
    return centred, (bias + weight @ as_array(norm.bias)).astype(np.float32)


def _matrix(conv: nn.Conv2d) -> Array:
    return as_array(conv.weight)[:, :, 0, 0]
