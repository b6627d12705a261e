"""A Group Aggregation Bridge whose norms are static, as a handful of linear maps.

With static norms a GAB is linear in its three inputs. Scales are spread so that what shares
one int8 scale (a concatenation) has channels of like ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import as_array, convolution_arrays
from egeunet.export.lean_bridge import layer_norm
from egeunet.model.layers import GAB
from egeunet.quantize.static_norms import StaticNorm

Array = NDArray[np.float32]
#: A matrix (outputs, inputs) and a bias (outputs,): a 1x1 convolution.
Affine = tuple[Array, Array]
_SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class StaticBridge:
    """The maps of a GAB in the order in which they are applied.

    Attributes:
        deep: deeper map -> C channels (before it is resized).
        guide: decoder map -> mask logit; None without a mask.
        kernels, biases, dilations: depthwise (1, 3, 3, G) and (G,) of the four groups, whose
            channels are those of the deep map, of the skip map, and the mask.
        tail: 4 G -> outputs.
        eps: of the norm between kernels and tail, which is then a division by the root of the
            mean square of the 4 G channels; None = it is static and part of the tail.
    """

    deep: Affine
    guide: Affine | None
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]
    dilations: tuple[int, ...]
    tail: Affine
    eps: float | None = None

    def behind(self, head: Array) -> StaticBridge:
        """The same, followed by a matrix (outputs, C)."""
        weight, bias = self.tail
        return replace(self, tail=(head @ weight, head @ bias))


def static_bridge(module: GAB, mask: nn.Conv2d | None) -> StaticBridge:
    """Fold the five norms of a GAB, or all but the last; ``mask`` makes its guiding logits.

    A dynamic last one has means near zero (at most a thirtieth of its variances, measured), so
    that its variance may as well be the mean square.
    """
    weight, bias, _ = convolution_arrays(module.pre_project)
    weight, run = weight[:, 0, 0, :], len(bias) // len(module.groups)
    guide = None
    if mask is not None:
        guide_weight, guide_bias, _ = convolution_arrays(mask)
        guide = guide_weight[:, 0, 0, :], guide_bias
    norms = [_static(branch[0]) for branch in module.groups]
    deviations = np.stack([_deviation(norm) for norm in norms])  # (groups, G)
    usual = float(deviations[:, run : 2 * run].mean())  # of the skip map, which stays as it is
    # What is made here takes the range of what it will be concatenated with.
    factors = np.ones_like(deviations)
    factors[:, :run] = usual / deviations[:, :run]
    lift = factors[:, :run].reshape(-1)
    if guide is not None:
        factors[:, -1] = usual / deviations[:, -1].mean()
        guide = guide[0] * factors[0, -1], guide[1] * factors[0, -1]

    after_norm, tail, eps = _tail(module)
    kernels, biases = [], []
    dilations = []
    for branch, norm, factor, after in zip(
        module.groups, norms, factors, np.split(after_norm, len(norms)), strict=True
    ):
        kernel, kernel_bias, dilation = convolution_arrays(branch[1])
        assert dilation is not None
        dilations.append(dilation)
        scale, offset = map(as_array, norm.scale_and_offset())
        kernels.append(kernel * (scale / factor * after))
        biases.append((kernel_bias + offset * kernel.sum((0, 1, 2))) * after)
    return StaticBridge(
        deep=(weight * lift[:, None], bias * lift),
        guide=guide,
        kernels=tuple(kernels),
        biases=tuple(biases),
        dilations=tuple(dilations),
        tail=tail,
        eps=eps,
    )


def _tail(module: GAB) -> tuple[Array, Affine, float | None]:
    """Of the last norm and the 1x1 convolution behind it: what the channels before are scaled
    by, the affine behind, and the epsilon of a dynamic norm between them."""
    last = module.tail_conv[0]
    weight, bias, _ = convolution_arrays(module.tail_conv[1])
    matrix = weight[:, 0, 0, :]
    if isinstance(last, StaticNorm):
        scale, offset = map(as_array, last.scale_and_offset())
        return scale, (matrix, bias + matrix @ offset), None
    norm = layer_norm(last)
    # Gamma, and the centring: channels that are all alike give nothing.
    scaled = matrix * as_array(norm.weight)
    centred = scaled - scaled.mean(1, keepdims=True)
    return np.ones_like(matrix[0]), (centred, bias + matrix @ as_array(norm.bias)), norm.eps


def _deviation(norm: StaticNorm) -> Array:
    assert norm.running_var is not None
    return np.maximum(np.sqrt(as_array(norm.running_var)), _SMALLEST_DEVIATION)


def _static(module: nn.Module) -> StaticNorm:
    assert isinstance(module, StaticNorm)
    return module
