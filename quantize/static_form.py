"""Choices of the static graph, and the builder for the one that concerns GELU.

No runtime for phones has an int8 kernel of GELU but LiteRT's own, outside of XNNPACK, each the
end of one of its partitions. DEQUANTIZE, GELU and QUANTIZE stay within; on x86-64 they become a
table. x * sigmoid(1.702 x) (Hendrycks and Gimpel, arXiv:1606.08415, section 2) is two operators
and differs by 0.02 at most. The factor costs nothing: all maps are 1.702 times what they would
be, which is a matter of biases.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from egeunet.export.graph import Array, GraphBuilder
from egeunet.export.request import OPTIMIZATIONS
from egeunet.model.errors import InputError
from egeunet.model.layers import GRID
from egeunet.quantize.grids import (
    KERNEL_SCALES,
    POINTWISE_BITS,
    SMALLEST_FOUR_BIT,
    require_known,
)

GELUS = ("table", "sigmoid", "relu")
_FACTOR = 1.702


@dataclass(frozen=True)
class StaticForm:
    """Choices of the static graph and of its integers.

    Attributes:
        dense_bridges: levels (1 = the largest map) whose GAB is four dense dilated
            convolutions of one sum of its inputs instead of slices, depthwise convolutions
            and concatenations.
        summed_bridges: levels whose GAB works on one sum of its inputs as well, with the whole
            decoder map in place of the mask, but with slices and depthwise convolutions.
        kernel_scales: see :func:`egeunet.quantize.int8.quantize_int8`.
        gelu: ``table``, GELU itself in float between integers, three operators; ``sigmoid``, two;
            or ``relu`` instead, no operator at all (a convolution does it), another function.
        dynamic_norms: names of norms, or of modules with norms, that stay as they are.
        pointwise_bits, four_bit_inputs, scale_steps: see
            :func:`egeunet.quantize.int8.quantize_int8`.
        halved_bridge: GAB1, dense, computes what has a dilation above one on its pooled map, and
            takes the last decoder map before its resize (which commutes with 1x1 convolutions).
        brief_norms: dynamic norms in the fewest operators: the encoder's GroupNorms have their
            statistics from the pooled map; a GHPA's second LayerNorm and a GAB's last divide by
            the root of the mean square (Zhang & Sennrich, arXiv:1910.07467), and the former's
            offset is a bias behind the next convolution. (A static first one has none at all.)
        rectified_bridges: levels whose GAB takes only the positive part of what it makes of the
            deep map and of the mask, or of their sum with the skip map, which has next to no
            other. That is free, and more like the reference than a linear GAB.
        float_pixels: what works on maps of at most so many pixels computes in float32, with
            integer kernels; 0 = nothing does but what has to.
        hadamard_side: of the grids that Hadamard maps are enlarged from.
        dropped_bridges: levels without a GAB: the skip map is added as it is.
        brief_attention: names of the GHPAs of which only what is behind the second norm stays.
        optimize: ``speed``, or ``size``: no operator and no constant for speed alone.
    """

    dense_bridges: tuple[int, ...] = (1,)
    kernel_scales: str = "tensor"
    gelu: str = "sigmoid"
    dynamic_norms: tuple[str, ...] = ()

    pointwise_bits: int = 8
    scale_steps: int = 0
    optimize: str = "speed"
    summed_bridges: tuple[int, ...] = ()
    halved_bridge: bool = False
    brief_norms: bool = False
    rectified_bridges: tuple[int, ...] = ()
    four_bit_inputs: int = SMALLEST_FOUR_BIT
    float_pixels: int = 0
    hadamard_side: int = GRID
    dropped_bridges: tuple[int, ...] = ()
    brief_attention: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bridges = ("dense_bridges", "summed_bridges", "rectified_bridges", "dropped_bridges")
        for name in (*bridges, "dynamic_norms", "brief_attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in bridges:
            if not set(getattr(self, name)) <= {1, 2, 3, 4, 5}:
                raise InputError(f"{name} must be levels 1 to 5, got {getattr(self, name)}")
        if 1 in self.dropped_bridges:
            raise InputError("dropped_bridges must be levels 2 to 5: GAB1 makes the last logits")
        require_known("kernel_scales", self.kernel_scales, KERNEL_SCALES)
        require_known("pointwise_bits", self.pointwise_bits, POINTWISE_BITS)
        require_known("gelu", self.gelu, GELUS)
        require_known("optimize", self.optimize, OPTIMIZATIONS)
        if self.halved_bridge and (1 not in self.dense_bridges or self.gelu == "sigmoid"):
            raise InputError(
                f"halved_bridge needs 1 among dense_bridges, got {self.dense_bridges}, and gelu "
                f"'relu' or 'table', got {self.gelu!r}"
            )
        if not 1 <= self.four_bit_inputs <= 1024:
            raise InputError(f"four_bit_inputs must lie in 1..1024, got {self.four_bit_inputs}")
        if not 0 <= self.float_pixels <= 2**20:
            raise InputError(f"float_pixels must lie in 0..2**20, got {self.float_pixels}")
        if not 2 <= self.hadamard_side <= GRID:
            raise InputError(f"hadamard_side must lie in 2..{GRID}, got {self.hadamard_side}")
        if not 0 <= self.scale_steps <= 64:
            raise InputError(f"scale_steps must lie in 0..64, got {self.scale_steps}")

    @property
    def factor(self) -> float:
        """What the maps of the graph are multiples of."""
        return _FACTOR if self.gelu == "sigmoid" else 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


class ScaledBuilder(GraphBuilder):
    """Builds a graph whose maps are all ``factor`` times as large, the input apart.

    Convolutions are linear but for their biases; GELU(x) becomes z * sigmoid(z), z = factor * x.
    What is not a convolution's bias (a constant that is added) is the caller's concern.
    """

    def __init__(self, input_shape: tuple[int, ...], factor: float) -> None:
        super().__init__(input_shape)
        self.factor = factor

    def conv2d(self, x: str, weight: Array, bias: Array) -> str:
        first = self.factor if x == self.input else 1
        return super().conv2d(
            x, (weight * first).astype(weight.dtype), (bias * self.factor).astype(bias.dtype)
        )

    def depthwise_conv2d(self, x: str, weight: Array, bias: Array, dilation: int = 1) -> str:
        scaled = (bias * self.factor).astype(bias.dtype)
        return super().depthwise_conv2d(x, weight, scaled, dilation)

    def elementwise(self, op: str, x: str) -> str:
        if op == "gelu":
            return self.mul(x, super().elementwise("sigmoid", x))
        return super().elementwise(op, x)


class ReluBuilder(GraphBuilder):
    """Builds a graph with ReLU in the place of GELU."""

    def elementwise(self, op: str, x: str) -> str:
        return super().elementwise("relu" if op == "gelu" else op, x)
