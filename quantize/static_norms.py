"""EGE-UNet with norms that are one affine per channel, the same for every image.

A LayerNorm or GroupNorm divides by a deviation that it computes anew for every pixel or
image: in integers that costs accuracy, operators and time. A static norm is what
BatchNorm is at inference (Ioffe & Szegedy, arXiv:1502.03167): it folds into the convolution
beside it and costs nothing. The network has to be fine-tuned for it (finetune.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.layers import ChannelLayerNorm

#: How fast running statistics follow the batches: over some 50 of them.
_MOMENTUM = 0.02


class StaticNorm(nn.BatchNorm2d):
    """An affine per channel in eval mode; in training mode its statistics are the batch's."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=_MOMENTUM)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """(scale, offset), each (C,) float: eval mode computes scale * x + offset."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight / torch.sqrt(self.running_var + self.eps)
        return scale, self.bias - scale * self.running_mean

    @torch.no_grad()
    def fit(self, x: Tensor, target: Tensor) -> None:
        """Set statistics to those of ``x`` and the affine to least squares against ``target``.

        Args:
            x, target: (B, C, H, W) float, the norm's input and what it should give.
        """
        assert self.running_mean is not None and self.running_var is not None
        axes = (0, 2, 3)
        mean, goal = x.mean(axes), target.mean(axes)
        variance = x.var(axes, correction=0)
        covariance = (x * target).mean(axes) - mean * goal
        deviation = torch.sqrt(variance + self.eps)
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)
        # scale = covariance / variance, in BatchNorm's terms; a flat channel gets none.
        self.weight.copy_(covariance * deviation / (variance + self.eps))
        self.bias.copy_(goal)


def norm_names(model: EGEUNet) -> tuple[str, ...]:
    """Names of all norms, static ones included, in the order in which they run."""
    norms = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, ChannelLayerNorm | nn.GroupNorm | StaticNorm)
    }
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(norms[module]))
        for module in norms
    ]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, model.config.input_channels, 64, 64))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(order)


def is_dynamic(module: nn.Module) -> bool:
    """Whether a module is a norm that computes its statistics anew."""
    return isinstance(module, ChannelLayerNorm | nn.GroupNorm)


@torch.inference_mode()
def norm_outputs(model: EGEUNet, names: Iterable[str], images: Tensor) -> dict[str, Tensor]:
    """What each named norm gives for normalized images (B, 3, H, W) float."""
    outputs: dict[str, Tensor] = {}
    hooks = []
    for name in names:

        def record(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            outputs[name] = output

        hooks.append(model.get_submodule(name).register_forward_hook(record))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def with_static_norms(model: EGEUNet, names: Sequence[str], images: Tensor) -> EGEUNet:
    """A copy of the network, in eval mode, in which the named norms are static.

    They are fitted in the order in which they run, each to the original's output, on what
    the static norms before it leave of its input: an error is corrected by the next one
    rather than handed on.

    Args:
        model: the reference, in eval mode; it is not changed.
        names: as :func:`norm_names` gives them.
        images: (B, 3, H, W) float, normalized training images.

    Raises:
        InputError: an unknown name, or fewer than two images.
    """
    known = norm_names(model)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"no norm is called {unknown[0]!r}; there are {len(known)}, such as "
            f"{known[0]}, {known[-1]}"
        )
    if len(images) < 2:
        raise InputError(f"static norms are fitted on two images or more, got {len(images)}")
    targets = norm_outputs(model, names, images)
    static = copy.deepcopy(model).eval()
    hooks = []
    for name in names:
        norm = StaticNorm(targets[name].shape[1]).eval()
        replace_module(static, name, norm)

        def fit(module: StaticNorm, inputs: tuple[Tensor], name: str = name) -> None:
            module.fit(inputs[0], targets.pop(name))

        hooks.append(norm.register_forward_pre_hook(fit))
    with torch.no_grad():
        static(images)
    for hook in hooks:
        hook.remove()
    return static


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the submodule called ``name``."""
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, module)
