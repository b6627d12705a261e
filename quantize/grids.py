"""The numbers that int8 values and kernels can have: scales, zero points, bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, Node, Quantization
from egeunet.model.errors import InputError

#: One scale a channel of every kernel; of depthwise kernels only; one a kernel, but a channel
#: for those of 4 bits; or one for every kernel.
KERNEL_SCALES = ("channel", "tensor", "all-tensor", "one")
#: Those of them that have one scale for a depthwise kernel.
ONE_SCALE = KERNEL_SCALES[2:]
POINTWISE_BITS = (8, 4)
#: Of zero points of which there shall be few.
ZERO_POINT_UNIT = 16
#: Inputs from which on half the weights of a 1x1 kernel are worth more than its scales' bytes.
SMALLEST_FOUR_BIT = 16
#: Of so many numbers a constant of a float32 operator takes fewer bytes as it is than as int8
#: with a scale and an operator that dequantizes it; a 1x1 kernel, which needs no such operator,
#: takes few more, and its products less time than a hybrid operator's quantization.
LARGEST_FLOAT, LARGEST_FLOAT_KERNEL = 64, 36
#: For values that are (nearly) all zero; products of two scales stay normal float32.
SMALLEST_SCALE = 1e-9


def require_known(name: str, value: object, known: Sequence[object]) -> None:
    """Refuse a value that is none of ``known``.

    Raises:
        InputError: it is none.
    """
    if value not in known:
        raise InputError(f"{name} must be {' or '.join(map(str, known))}, got {value!r}")


@dataclass(frozen=True)
class Kernels:
    """How the kernels of a graph are quantized.

    Attributes:
        graph: in float32.
        scales, pointwise_bits, four_bit_inputs: see
            :func:`egeunet.quantize.int8.quantize_int8`.
    """

    graph: Graph
    scales: str = "channel"
    pointwise_bits: int = 8
    four_bit_inputs: int = SMALLEST_FOUR_BIT

    def bits(self, node: Node) -> int:
        """8, or 4 for a 1x1 kernel of enough inputs."""
        _, height, width, inputs = self.graph.values[node.inputs[1]].shape
        pointwise = node.op == "conv2d" and (height, width) == (1, 1)
        small = self.pointwise_bits == 4 and pointwise
        # Two weights are a byte: an odd number has no half of its own.
        return 4 if small and inputs >= self.four_bit_inputs and inputs % 2 == 0 else 8

    def axis(self, node: Node) -> int | None:
        """The axis whose channels have scales of their own; None = one scale."""
        if node.op == "depthwise_conv2d":
            return None if self.scales in ONE_SCALE else 3
        if self.scales == "one":
            return None
        return 0 if self.scales == "channel" or self.bits(node) == 4 else None

    def levels(self, node: Node) -> int:
        """The largest integer of the kernel."""
        return 2 ** (self.bits(node) - 1) - 1


def asymmetric(low: float, high: float, steps: int = 0) -> Quantization:
    """int8 over low..high, widened to hold zero exactly (padding is zero).

    With ``steps`` the scale is a power of 2 ** (1 / steps), the zero point a multiple of 16.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale, unit = max((high - low) / 255, SMALLEST_SCALE), 1
    if steps:
        scale, unit = 2.0 ** (round(math.log2(scale) * steps) / steps), ZERO_POINT_UNIT
    zero = unit * round((-128 - low / scale) / unit)
    return Quantization.per_tensor(scale, int(np.clip(zero, -128, 127)))


def symmetric(
    weight: NDArray[np.float32],
    axis: int | None,
    least: NDArray[np.float64] | float = 0.0,
    levels: int = 127,
    steps: int = 0,
) -> tuple[NDArray[np.int8], Quantization]:
    """Kernel in -levels..levels with one scale per channel of ``axis``, at least ``least``;
    None = one scale, a power of 2 ** (1 / steps) if there are ``steps``."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peak = np.abs(weight).max(axis=others).astype(np.float64).reshape(-1)
    if axis is None:
        least = np.max(least)
    # A channel of zeros gets a small scale: XNNPACK refuses one of 256 output steps.
    scale = np.maximum(peak / levels, np.maximum(least, SMALLEST_SCALE))
    if axis is None and steps:  # upwards, so that nothing is clipped
        scale = np.exp2(np.ceil(np.log2(scale) * steps) / steps)
    scale = scale.astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    values = np.clip(np.round(weight / scale.reshape(shape)), -levels, levels).astype(np.int8)
    return values, Quantization(scale, np.zeros(len(scale), np.int64), axis or 0)
