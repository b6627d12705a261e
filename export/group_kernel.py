"""A 3x3 convolution on groups of neighbouring pixels of a row: its kernel and its scales.

(H, W, C) is (H, W / p, p C) in the same memory. Kernels of phones and of ONNX Runtime fill
their lanes better so where channels are few: same products, same sums, bit-identical.
"""

from __future__ import annotations

import numpy as np

from egeunet.export.graph import Array, GraphBuilder, Value


def group_kernel(kernel: Array, pixels: int, dilation: int) -> Array:
    """(O, 3, 3, I) over pixels, dilated -> (p O, 3, 3, p I) over groups, dilated in rows only."""
    outputs, _, _, inputs = kernel.shape
    groups = np.zeros((pixels, outputs, 3, 3, pixels, inputs), kernel.dtype)
    for pixel in range(pixels):
        for tap in range(3):
            group, place = divmod(pixel + dilation * (tap - 1), pixels)
            groups[pixel, :, :, group + 1, place] = kernel[:, :, tap]
    return groups.reshape(pixels * outputs, 3, 3, pixels * inputs)


def repeated_constant(b: GraphBuilder, data: Array, like: Value, pixels: int) -> str:
    """Add ``data`` with the scales of the constant ``like``, once for each pixel of a group."""
    assert like.quantization is not None
    return b.typed(b.constant(data), str(data.dtype), like.quantization.repeated(pixels))
