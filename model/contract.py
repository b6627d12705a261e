"""What a model file expects and gives: written once, carried by every format."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from egeunet.model.config import STRIDE
from egeunet.model.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NORMALIZATIONS = ("unit", "minmax255")


@dataclass(frozen=True)
class ModelContract:
    """The agreement between whoever trained the weights and whoever runs them.

    Attributes:
        height, width: size of the model's input in pixels, multiples of 32. An image
            is squashed to it (both axes on their own), antialiased bilinear.
        colour: channel order of the input.
        normalization: ``unit`` = pixel / 255; ``minmax255`` = the public code's
            (min-max of the whole image to 0..255; its mean and std cancel out).
        output: meaning of the output map, one channel, 0..1.
        threshold: a pixel is lesion where the output is greater or equal.

    Raises:
        InputError: for any value outside those sets.
    """

    height: int = 256
    width: int = 256
    colour: str = "RGB"
    normalization: str = "unit"
    output: str = "lesion probability"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            side = getattr(self, name)
            if not isinstance(side, int) or side < STRIDE or side % STRIDE:
                raise InputError(
                    f"{name} must be a positive multiple of {STRIDE}, got {side!r}; "
                    f"try {max(STRIDE, (side + STRIDE // 2) // STRIDE * STRIDE)}"
                    if isinstance(side, int)
                    else f"{name} must be an integer, got {side!r}"
                )
        if self.colour != "RGB":
            raise InputError(f"colour must be 'RGB', got {self.colour!r}")
        if self.normalization not in NORMALIZATIONS:
            raise InputError(
                f"normalization must be one of {NORMALIZATIONS}, got {self.normalization!r}"
            )
        if not isinstance(self.threshold, int | float) or not 0.0 < self.threshold < 1.0:
            raise InputError(f"threshold must lie between 0 and 1, got {self.threshold!r}")

    @property
    def pixel_scale(self) -> float:
        """The step between two pixel values in an integer file's input: 1/255 where they are
        divided by 255, else 1."""
        return 1 / 255 if self.normalization == "unit" else 1.0

    def normalize(self, image_nhwc: NDArray[Any]) -> NDArray[np.float32]:
        """uint8 or float pixels 0..255, (N, H, W, 3) -> what the network takes, float32."""
        pixels = image_nhwc.astype(np.float32)
        if self.normalization == "unit":
            return pixels / np.float32(255.0)
        low = pixels.min(axis=(1, 2, 3), keepdims=True)
        high = pixels.max(axis=(1, 2, 3), keepdims=True)
        # A uniform image has no range: the public code divides by zero, we give zeros.
        return (pixels - low) / np.maximum(high - low, 1.0) * np.float32(255.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelContract:
        """The inverse of :meth:`to_dict`.

        Raises:
            InputError: for a missing or unknown key or a bad value.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict):
            raise InputError(f"not a model contract: expected an object, got {values!r}")
        if set(values) != known:
            missing, unknown = sorted(known - set(values)), sorted(map(str, set(values) - known))
            raise InputError(f"not a model contract: missing {missing}, unknown {unknown}")
        return cls(**values)
