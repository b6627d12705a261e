"""Bilinear resizing for training: as torch does it, but opaque to torch.compile.

The compiler writes the gradient of a resize as atomic additions, one for each of four
neighbours: at 256 x 256 half of a training step. torch's own kernels, called as they are,
take a tenth of that; large factors are two small matrix products, cheaper still.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: From this factor on the gradient is computed by matrices: few columns, no scatter.
_BY_MATRICES = 4


def resize_for_training(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize with aligned corners, bit-identical to ``F.interpolate``.

    Args:
        x: (B, C, H, W) float32, any memory format.
        height, width: of the result, in pixels.

    Returns:
        (B, C, height, width), channels_last; its gradient equals torch's up to the order
        of the sums.
    """
    result: Tensor = _resize(x, height, width)
    return result


def _empty(like: Tensor, height: int, width: int) -> Tensor:
    shape = (*like.shape[:2], height, width)
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


@torch.library.custom_op("egeunet::resize", mutates_args=())
def _resize(x: Tensor, height: int, width: int) -> Tensor:
    out = _empty(x, height, width)
    return torch.ops.aten.upsample_bilinear2d.out(x, [height, width], True, None, None, out=out)


@_resize.register_fake
def _(x: Tensor, height: int, width: int) -> Tensor:
    return _empty(x, height, width)


@torch.library.custom_op("egeunet::resize_gradient", mutates_args=())
def _resize_gradient(gradient: Tensor, height: int, width: int) -> Tensor:
    out = _empty(gradient, height, width)
    tall, wide = gradient.shape[2:]
    if gradient.shape[1] == 1 and min(tall // height, wide // width) >= _BY_MATRICES:
        rows = _matrix(height, tall, gradient.dtype, gradient.device)
        columns = _matrix(width, wide, gradient.dtype, gradient.device)
        return out.copy_((rows.T @ gradient[:, 0] @ columns)[:, None])
    return torch.ops.aten.upsample_bilinear2d_backward.grad_input(
        gradient.contiguous(memory_format=torch.channels_last), [tall, wide],
        [*gradient.shape[:2], height, width], True, None, None, grad_input=out,
    )  # fmt: skip


@_resize_gradient.register_fake
def _(gradient: Tensor, height: int, width: int) -> Tensor:
    return _empty(gradient, height, width)


def _save_shape(ctx: torch.autograd.function.FunctionCtx, inputs: object, output: object) -> None:
    ctx.shape = inputs[0].shape[2:]  # type: ignore[attr-defined, index]


def _backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[object, ...]:
    height, width = ctx.shape  # type: ignore[attr-defined]
    return _resize_gradient(gradient, height, width), None, None


_resize.register_autograd(_backward, setup_context=_save_shape)


@lru_cache(maxsize=64)
def _matrix(size: int, enlarged: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(enlarged, size): what one side's resize multiplies by."""
    identity = torch.eye(size, dtype=dtype, device=device)[:, None]  # (size, 1, size)
    wide = torch.nn.functional.interpolate(
        identity[..., None, :], (1, enlarged), mode="bilinear", align_corners=True
    )
    return wide[:, 0, 0].T.contiguous()
