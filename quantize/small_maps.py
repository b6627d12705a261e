"""Dynamic norms of maps so small that they are computed in float32, in the fewest operators.

No matrices that gather and spread channels: means over an axis, which need no constant, and
where groups have statistics of their own they become an axis for a while. On such maps a call a
pixel is little. There is no epsilon: a deviation of zero takes channels that are all alike, which
trained weights do not give even for a picture of one colour (tests/parity checks such).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import as_array, convolution_arrays
from egeunet.export.lean_bridge import layer_norm
from egeunet.model.layers import GAB, ChannelLayerNorm
from egeunet.quantize.bridge_forms import BridgeForms

Array = NDArray[np.float32]
#: On larger maps runs of a quarter of the channels are more calls than matrices take.
_GROUPED_PIXELS = 32 * 32
#: Below this a gamma is not divided by.
_SMALLEST_GAMMA = 1e-3


class SmallMaps(BridgeForms):
    """Appends norms of small maps; leaves those of larger ones as they are."""

    def is_small(self, x: str) -> bool:
        """Whether a map is one of those that the form computes in float32."""
        height, width = self.b.shape(x)[1:3]
        return height * width <= self.form.float_pixels

    def has_groups_as_axis(self, x: str) -> bool:
        """Whether a GroupNorm of a map has its groups as an axis: where that takes no more time,
        and where ``optimize`` is size on all small maps."""
        height, width = self.b.shape(x)[1:3]
        small = self.form.optimize == "size" and self.is_small(x)
        return small or height * width <= _GROUPED_PIXELS

    def standardized(self, x: str, axes: Sequence[int], groups: int = 1) -> str:
        """``x`` minus its mean and over its deviation, both over ``axes`` of (1, pixels,
        groups, channels a group) for several groups, else of (1, H, W, C)."""
        b, shape = self.b, self.b.shape(x)
        if groups > 1:
            x = b.reshape(x, (1, shape[1] * shape[2], groups, shape[3] // groups))
        x = b.sub(x, b.mean(x, axes))
        x = b.mul(x, b.elementwise("rsqrt", b.mean(b.mul(x, x), axes)))
        return b.reshape(x, shape) if groups > 1 else x

    def grouped_affine(self, norm: nn.GroupNorm, x: str, sign: Array) -> str:
        """GroupNorm of a small map that is flipped by ``sign``. (What is flipped is so in the
        statistics, too: exact but for groups of both signs.)"""
        b = self.b
        with b.within("group_norm"):
            x = self.standardized(x, (1, 3), norm.num_groups)
            x = b.mul(x, b.constant(as_array(norm.weight) * sign))
            return b.add(x, b.constant(as_array(norm.bias)))

    def scaled_norm(self, norm: nn.Module, x: str) -> tuple[str, Array]:
        if not self.is_small(x):
            return super().scaled_norm(norm, x)
        found = layer_norm(norm)
        return self.shifted([found], self.in_layer_norm(x)), folded_gamma(found)

    def in_layer_norm(self, x: str) -> str:
        """Channels, standardized at every pixel."""
        with self.b.within("layer_norm"):
            return self.standardized(x, (3,))

    def shifted(self, norms: Sequence[ChannelLayerNorm], x: str) -> str:
        """Plus beta / gamma of norms side by side, whose gammas are still to be multiplied by."""
        offsets = [as_array(norm.bias) / folded_gamma(norm) for norm in norms]
        return self.b.add(x, self.b.constant(np.concatenate(offsets)))

    def mixed(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> tuple[list[str], Array]:
        if not self.is_small(skip):
            return super().mixed(module, deep, skip, x, mask)
        b, groups = self.b, len(module.groups)
        norms = [layer_norm(branch[0]) for branch in module.groups]
        _, height, width, _ = b.shape(skip)
        x = self.in_layer_norm(self.side_by_side(module, deep, skip, x, mask))
        x = b.reshape(x, (1, height, width, groups * len(norms[0].weight)))
        parts = b.split(self.shifted(norms, x), groups)
        mixed = [
            self.conv(branch[1], part, input_scale=folded_gamma(norm))
            for branch, norm, part in zip(module.groups, norms, parts, strict=True)
        ]
        return mixed, np.ones(len(norms[0].weight), np.float32)

    def side_by_side(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> str:
        """The inputs of the four LayerNorms, (1, pixels, groups, channels of one): what is
        split in the reference is an axis here, and every group has mask logits of its own."""
        b, groups = self.b, len(module.groups)
        _, height, width, _ = b.shape(skip)
        deep = b.resize(self.conv(module.pre_project, deep), height, width)
        inputs = [deep, skip]
        if mask is not None:
            weight, bias, _ = convolution_arrays(mask)
            inputs.append(b.conv2d(x, np.repeat(weight, groups, 0), np.repeat(bias, groups)))
        runs = [b.shape(one)[3] // groups for one in inputs]
        return b.concat(
            [
                b.reshape(one, (1, height * width, groups, run))
                for one, run in zip(inputs, runs, strict=True)
            ]
        )

    def tail(
        self, norm: ChannelLayerNorm, parts: list[str], real: Array, kernel: Array, bias: Array
    ) -> str:
        if not self.is_small(parts[0]):
            return super().tail(norm, parts, real, kernel, bias)
        matrix = kernel[:, 0, 0]
        x, constant = self.in_layer_norm(self.b.concat(parts)), matrix @ as_array(norm.bias)
        return self.mix(x, matrix * as_array(norm.weight), (bias + constant).astype(np.float32))


def folded_gamma(norm: ChannelLayerNorm) -> Array:
    """Gamma as what comes behind may be multiplied and beta be divided by: not zero."""
    gamma = as_array(norm.weight)
    folded = np.where(gamma < 0, -1, 1) * np.maximum(np.abs(gamma), _SMALLEST_GAMMA)
    return folded.astype(gamma.dtype)
