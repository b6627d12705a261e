"""How a static norm goes into the convolution beside it, and what goes with it."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import as_array
from egeunet.model.errors import InputError
from egeunet.model.layers import GAB, ChannelLayerNorm
from egeunet.quantize.static_norms import StaticNorm

Array = NDArray[np.float32]
#: A scale is not divided by below this.
_SMALLEST_SCALE = 1e-3


def is_static(module: nn.Module) -> bool:
    """Whether all norms of a GHPA or GAB are static, of the latter all but perhaps the last.

    Raises:
        InputError: a GAB some of whose norms are.
    """
    named = dict(module.named_modules())
    static = {
        name: isinstance(part, StaticNorm)
        for name, part in named.items()
        if isinstance(part, ChannelLayerNorm | StaticNorm)
    }
    if isinstance(module, GAB):
        last = static.pop("tail_conv.0")
        some = set(static.values()) == {False, True}
        if some or (last and not any(static.values())):
            raise InputError(
                f"{sum(static.values()) + last} of a GAB's {len(static) + 1} norms are static; "
                "its deploy form takes all, all but the last, or none"
            )
    return all(static.values())


def scale_and_centre(norm: StaticNorm) -> tuple[Array, Array]:
    """(C,) each: the norm as scale * (x - centre), the centre within what its input takes."""
    scale, offset = map(as_array, norm.scale_and_offset())
    assert norm.running_mean is not None and norm.running_var is not None
    reach = np.abs(as_array(norm.running_mean)) + 4 * np.sqrt(as_array(norm.running_var))
    divisor = np.where(scale < 0, -1, 1) * np.maximum(np.abs(scale), _SMALLEST_SCALE)
    return scale, np.clip(-offset / divisor, -reach, reach).astype(np.float32)


def absorbed(block: nn.Module, norm: StaticNorm) -> nn.Module:
    """A copy of a block whose last convolution does the norm behind it as well."""
    block = copy.deepcopy(block)
    last = block if isinstance(block, nn.Conv2d) else block.get_submodule("ldw.2")
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    scale, offset = norm.scale_and_offset()
    last.weight.data = last.weight * scale[:, None, None, None]
    last.bias.data = last.bias * scale + offset
    return block


def enlarged_from(full: Array, side: int) -> Array:
    """The (1, side, side, C) grid whose bilinear enlargement is nearest to (1, H, W, C)."""
    rows, columns = (np.linalg.pinv(_enlargement(side, n)) for n in full.shape[1:3])
    return np.einsum("ih,jw,nhwc->nijc", rows, columns, full).astype(np.float32)


def _enlargement(side: int, size: int) -> NDArray[np.float64]:
    """(size, side): bilinear weights with aligned corners."""
    places = np.linspace(0, side - 1, size)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side)))
