"""An ablated network is exported like the full one: deploy and lean form give its answer."""

from __future__ import annotations

import pytest
import torch

from egeunet.export.deploy import build_deploy_graph
from egeunet.export.interpret import run_graph
from egeunet.export.lean import build_lean_graph
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.ablations import ABLATIONS, ablated

#: Rounding, with random parameters: LayerNorms of five channels magnify it (docs/decisions.md).
TOLERANCE = 1e-3


@pytest.mark.parametrize("build", [build_deploy_graph, build_lean_graph])
@pytest.mark.parametrize("name", ABLATIONS)
def test_both_forms_compute_the_ablated_network(name: str, build: object) -> None:
    torch.manual_seed(0)
    model = EGEUNet(ablated(name)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.3 * torch.rand_like(parameter) - 0.15
    image = torch.rand(1, 64, 64, 3)
    graph = build(model, ModelContract(64, 64))  # type: ignore[operator]
    ours, theirs = run_graph(graph, image), model(image.permute(0, 3, 1, 2)).probability
    assert theirs.std() > 1e-3, "a constant map proves nothing"
    difference = (ours - theirs.permute(0, 2, 3, 1)).abs()
    assert difference.max() <= TOLERANCE, (
        f"{name}: max difference {difference.max():.3g}, mean {difference.mean():.3g}"
    )
