"""Graphs in float64 and in float32 against PyTorch in float64, for modules with any norms.

A graph's constants are float32, also where it is computed in float64: gamma times a weight is
rounded once. EXACT is that rounding and no more, so a rewrite that is not exact in real
arithmetic cannot pass; ROUNDED adds float32's sums in another order. Both are relative to the
peak of the result where that is above 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.interpret import run_graph
from egeunet.export.lean import LeanTranslator

EXACT, ROUNDED = 1e-6, 4e-6
TINY = 1e-4  # below what lean.py divides by
#: What the gamma of every norm starts with; the rest is random.
GAMMAS = {
    "random": [], "positive": [0.5] * 64, "negative": [-0.7] * 64, "zero": [0.0, -0.3],
    "tiny": [TINY, -0.3], "tiny and negative": [0.3, -TINY], "all zero": [0.0] * 64,
}  # fmt: skip
Build = Callable[[LeanTranslator, str], str]
Want = Callable[[Tensor], Tensor]  # of a float64 image (N, C, H, W)


def randomized(module: Any, gamma: list[float] | None = None) -> Any:
    """All parameters random, results of the order of 1; ``gamma`` starts every norm's weight."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            kernel = name == "weight" and parameter.ndim > 1
            deviation = parameter[0].numel() ** -0.5 if kernel else 1.0
            nn.init.normal_(parameter, 0, deviation, generator=generator)
            if name == "weight" and not kernel:
                start = torch.tensor(gamma or [])[: len(parameter)]
                parameter.data[: len(start)] = start
    return module.eval().requires_grad_(False)


def double(module: Any) -> Any:
    return copy.deepcopy(module).double()


def noise(*shape: int) -> Tensor:
    """(2, H, W, C) float32."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def graph_of(shape: tuple[int, ...], build: Build, optimize: str = "speed") -> Graph:
    b = GraphBuilder((1, *shape))
    return b.finish(build(LeanTranslator(b, optimize), b.input))


def in_float64(graph: Graph) -> Graph:
    values = {
        name: value if value.data is None else replace(value, data=value.data.astype(np.float64))
        for name, value in graph.values.items()
    }
    return Graph(graph.input, graph.output, graph.nodes, values)


def assert_equal(graph: Graph, image: Tensor, want: Want, rounded: float = ROUNDED) -> None:
    """In both types, against the reference in float64: its own rounding is nobody's mistake."""
    expected = want(image.double().permute(0, 3, 1, 2))
    forms = (in_float64(graph), image.double(), EXACT), (graph, image, rounded)
    for form, given, bound in forms:
        got = run_graph(form, given).permute(0, 3, 1, 2)
        assert got.dtype == given.dtype and got.shape == expected.shape
        difference = (got - expected).abs() / max(1.0, float(expected.abs().max()))
        print(f"{given.dtype}: {difference.max():.2e} of {bound:.0e}")
        assert float(difference.max()) <= bound, f"{given.dtype}: {difference.max()}"
