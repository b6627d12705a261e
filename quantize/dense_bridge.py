"""A static GAB as four dense dilated convolutions of one map.

On large maps slices, concatenations and depthwise convolutions of five channels cost more
than a dense convolution, whose kernels fill the lanes of phones' dot products. What the
reference concatenates is added instead:

    source = skip + resize(D deep) + M decoder
    result = sum over dilations of convolution(source)

The skip map is treated exactly as in the reference; D and M are chosen so that constant maps
are (the sum of a kernel is what counts there); the rest is left to fine-tuning, which may use
all channels of the dense kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egeunet.quantize.static_bridge import Affine, StaticBridge

Array = NDArray[np.float32]
#: Directions in which the summed kernels are this much weaker than in the strongest are not
#: asked for: they would need large maps.
_SMALLEST_GAIN = 0.1


@dataclass(frozen=True)
class DenseBridge:
    """The maps of a GAB in this form.

    Attributes:
        deep: deeper map -> C channels (before it is resized).
        guide: decoder map -> C channels; None without a mask.
        kernels, biases, dilations: (outputs, 3, 3, C) and (outputs,) of the convolutions.
    """

    deep: Affine
    guide: Affine | None
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]
    dilations: tuple[int, ...]


def dense_bridge(bridge: StaticBridge) -> DenseBridge:
    """The dense form of a static GAB."""
    matrix, constant = bridge.tail
    groups = len(bridge.kernels)
    slot = bridge.kernels[0].shape[3]
    run = (slot - (bridge.guide is not None)) // 2
    outputs = len(constant)
    kernels, biases = [], []
    of_deep, of_mask = [], np.zeros((outputs, 1))
    for index, (kernel, bias) in enumerate(zip(bridge.kernels, bridge.biases, strict=True)):
        columns = matrix[:, index * slot : (index + 1) * slot]  # (outputs, slot)
        whole = np.einsum("oc,hwc->ohwc", columns, kernel[0])
        gain = whole.sum((1, 2))
        of_deep.append(gain[:, :run])
        if bridge.guide is not None:
            of_mask = of_mask + gain[:, 2 * run :]
        dense = np.zeros((outputs, 3, 3, groups * run), np.float32)
        dense[..., index * run : (index + 1) * run] = whole[..., run : 2 * run]
        kernels.append(dense)
        biases.append((columns @ bias).astype(np.float32))
    biases[0] = biases[0] + constant
    # Constant maps through all kernels together; solved for what gives the deep map's share.
    total = sum(kernel.sum((1, 2)) for kernel in kernels)
    inverse = np.linalg.pinv(total, rcond=_SMALLEST_GAIN)
    lift = inverse @ np.concatenate(of_deep, axis=1)
    weight, bias = bridge.deep
    deep = (lift @ weight).astype(np.float32), (lift @ bias).astype(np.float32)
    guide = None
    if bridge.guide is not None:
        raised = inverse @ of_mask
        weight, bias = bridge.guide
        guide = (raised @ weight).astype(np.float32), (raised @ bias).astype(np.float32)
    return DenseBridge(deep, guide, tuple(kernels), tuple(biases), bridge.dilations)
