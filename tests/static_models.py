"""Networks with static norms whose values are random, for tests."""

from __future__ import annotations

import torch
from torch import nn

from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import build_static_graph
from egeunet.quantize.static_norms import StaticNorm, norm_names, replace_module
from egeunet.quantize.trained_graph import TrainedGraph

#: Size of the images: the deepest maps are 2 x 2, no Hadamard map is larger than its grid.
SIZE = 64
CONTRACT = ModelContract(SIZE, SIZE)
SLICED = StaticForm(dense_bridges=(), gelu="table")


def random_network(seed: int = 0, **changes: object) -> EGEUNet:
    """Initial weights, but norms that are not the identity."""
    torch.manual_seed(seed)
    model = EGEUNet(EGEUNetConfig(**changes)).eval().requires_grad_(False)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.3)
    return model


def static_network(
    seed: int = 0, static: tuple[str, ...] | None = None, **changes: object
) -> EGEUNet:
    """Random static norms in the place of the named ones (None: all).

    Offsets are zero where padding follows, so that folding is exact at borders as well.
    """
    model = random_network(seed, **changes)
    for name in norm_names(model) if static is None else static:
        channels = len(model.get_parameter(f"{name}.weight"))
        norm = StaticNorm(channels).eval().requires_grad_(False)
        nn.init.normal_(norm.running_mean, 0.0, 0.2)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        if name.endswith("norm2") or (".g" in name):
            norm.bias -= norm.scale_and_offset()[1]
        replace_module(model, name, norm)
    return model


def images(count: int, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    """(count, 3, size, size) float in 0..1: smooth, as pictures are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    return nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)


def graph_of(model: EGEUNet, form: StaticForm = SLICED) -> TrainedGraph:
    """The static graph of a network with static norms, in float64."""
    return TrainedGraph(build_static_graph(model, CONTRACT, form)).double()
