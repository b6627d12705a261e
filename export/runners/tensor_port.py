"""Input and output tensors of an integer model: the affine map between real and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.model.errors import InputError

DTYPES = ("float32", "uint8", "int8")


@dataclass(frozen=True)
class TensorPort:
    """One tensor at the border of a model: real = (stored - zero_point) * scale.

    Attributes:
        index: the runtime's number of the tensor.
        shape: its full shape.
        dtype: ``float32`` (no quantization), ``uint8`` or ``int8``.
        scale, zero_point: the affine map; ignored for float32.

    Raises:
        InputError: another dtype, or an integer tensor without a usable scale.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"tensor type {self.dtype}, expected one of {', '.join(DTYPES)}")
        if self.dtype == "float32":
            return
        limits = np.iinfo(self.dtype)
        if not np.finfo(np.float32).tiny <= self.scale < np.inf:  # LiteRT crashes on subnormals
            raise InputError(f"{self.dtype} with scale {self.scale}, expected a positive number")
        if not limits.min <= self.zero_point <= limits.max:
            raise InputError(f"{self.dtype} with zero point {self.zero_point}, out of its range")

    @classmethod
    def of_tensor(cls, detail: Mapping[str, Any]) -> TensorPort:
        """Of a tensor as LiteRT's interpreter describes it.

        Raises:
            InputError: several scales, or as the class.
        """
        quantization = detail["quantization_parameters"]
        scales, zero_points = quantization["scales"], quantization["zero_points"]
        if len(scales) > 1:
            raise InputError(f"quantized with {len(scales)} scales, expected one per tensor")
        scale, zero = (float(scales[0]), int(zero_points[0])) if len(scales) else (0.0, 0)
        shape = tuple(int(side) for side in detail["shape"])
        return cls(int(detail["index"]), shape, np.dtype(detail["dtype"]).name, scale, zero)

    def quantize(self, real: NDArray[np.float32]) -> NDArray[Any]:
        """float32 real values -> stored values, rounded to nearest and clipped to the type.

        With scale 1/255 and zero point 0, ``pixel / 255`` comes back as the pixel itself.
        """
        if self.dtype == "float32":
            return real.astype(np.float32, copy=False)
        limits = np.iinfo(self.dtype)
        stored = np.rint(real / np.float32(self.scale)) + self.zero_point
        return np.asarray(np.clip(stored, limits.min, limits.max).astype(self.dtype))

    def dequantize(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Stored values -> float32 real values."""
        if self.dtype == "float32":
            return stored.astype(np.float32, copy=False)
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def __str__(self) -> str:
        if self.dtype == "float32":
            return "float32 NHWC"
        return f"{self.dtype} NHWC (scale {self.scale:.6g}, zero point {self.zero_point})"
