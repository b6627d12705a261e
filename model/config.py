"""The architecture of one EGE-UNet, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from egeunet.model.errors import InputError

#: The input's sides are halved five times (Ruan et al., 2023, section 2 and figure 2).
STRIDE = 32
#: What the six deep stages are made of: the paper's block, or one of two plain ones instead.
ATTENTIONS = ("ghpa", "depthwise", "convolution")
#: A bound far above any sense, so that a damaged file asks for no terabytes.
MAX_CHANNELS = 4096


@dataclass(frozen=True)
class EGEUNetConfig:
    """Configuration of :class:`egeunet.model.EGEUNet`; the defaults are the paper's network.

    Attributes:
        num_classes: channels of the final map; 1 is lesion against skin.
        input_channels: channels of the image.
        channels: widths of the six stages; each a positive multiple of 4
            (GHPA and GAB split channels into four groups, GroupNorm has four).
        bridge: Group Aggregation Bridge on the skip connections; off = plain addition.
        deep_supervision: the five side outputs; they also feed GAB its mask, so
            without them a GAB works on the two feature maps alone.
        attention: block of the three deepest encoder and decoder stages: ``ghpa``,
            ``depthwise`` (the depthwise-separable convolution that a GHPA ends with, without
            what comes before) or ``convolution`` (3x3, as in the paper's baseline).
        bridge_mask: side logits enter the GABs; says nothing where there are none of either.
        dilated: GAB's convolutions have dilations 1, 2, 5, 7; off = 1 in all four groups.

    Raises:
        InputError: for any value outside those ranges.
    """

    num_classes: int = 1
    input_channels: int = 3
    channels: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    bridge: bool = True
    deep_supervision: bool = True
    attention: str = "ghpa"
    bridge_mask: bool = True
    dilated: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        for name in ("num_classes", "input_channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= MAX_CHANNELS:
                raise InputError(
                    f"{name} must be a positive integer up to {MAX_CHANNELS}, got {value!r}"
                )
        if len(self.channels) != 6 or any(
            not isinstance(c, int) or not 4 <= c <= MAX_CHANNELS or c % 4 for c in self.channels
        ):
            raise InputError(
                f"channels must be six positive multiples of 4 up to {MAX_CHANNELS}, "
                f"got {self.channels!r}"
            )
        if self.attention not in ATTENTIONS:
            raise InputError(f"attention must be one of {ATTENTIONS}, got {self.attention!r}")
        for name in ("bridge", "deep_supervision", "bridge_mask", "dilated"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {getattr(self, name)!r}")

    @property
    def guided(self) -> bool:
        """Whether side logits enter the bridges."""
        return self.bridge and self.deep_supervision and self.bridge_mask

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EGEUNetConfig:
        """The inverse of :meth:`to_dict`; an unknown key is an :class:`InputError`."""
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"not an EGE-UNet configuration: {values!r} ({error})") from error
