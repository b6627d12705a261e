"""The deploy form against the reference network; test_lean_network.py has its lean sister."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egeunet.export.deploy import build_deploy_graph
from egeunet.export.graph import Graph
from egeunet.export.interpret import run_graph
from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract
from egeunet.model.errors import InputError

#: Of the final probability.
TOLERANCE = 1e-4
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "no bridge": {"bridge": False},
    "no deep supervision": {"deep_supervision": False},
    "neither": {"bridge": False, "deep_supervision": False},
    "other widths": {"channels": (4, 8, 12, 20, 24, 28)},
    "two classes": {"num_classes": 2},
}


def variants(model: EGEUNet, contract: ModelContract) -> Iterator[tuple[str, Graph]]:
    for optimize in ("speed", "size"):
        yield optimize, build_deploy_graph(model, contract, optimize)


def assert_equal(graph: Graph, image: torch.Tensor, want: torch.Tensor, what: str) -> None:
    """image (N, 3, H, W), want (N, classes, H, W); computed in the image's type."""
    got = run_graph(graph, image.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
    assert got.shape == want.shape and got.dtype == want.dtype, what
    difference = (got - want).abs()
    assert float(difference.max()) <= TOLERANCE, (
        f"{what}: probability differs by max {difference.max()}, mean {difference.mean()}"
    )


def exact(model: EGEUNet, image: torch.Tensor) -> torch.Tensor:
    """The reference in float64. Random networks magnify rounding (logits of +-40, groups
    without variance), so that their float32 says nothing about a rewrite."""
    with torch.no_grad():
        return copy.deepcopy(model).double()(image.double()).probability


def in_float64(graph: Graph) -> Graph:
    values = {
        name: value if value.data is None else replace(value, data=value.data.astype(np.float64))
        for name, value in graph.values.items()
    }
    return Graph(graph.input, graph.output, graph.nodes, values)


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_random_networks(changes: dict[str, Any]) -> None:
    torch.manual_seed(5)
    model = EGEUNet(EGEUNetConfig(**changes)).eval()
    image = torch.rand(2, 3, 64, 96)
    want = exact(model, image)
    for what, graph in variants(model, ModelContract(64, 96)):
        assert_equal(in_float64(graph), image.double(), want, what)


def test_random_network_at_the_contracts_size() -> None:
    torch.manual_seed(5)
    model = EGEUNet().eval()
    image = torch.rand(1, 3, 256, 256)
    want = exact(model, image)
    for what, graph in variants(model, ModelContract()):
        assert_equal(in_float64(graph), image.double(), want, f"{what}, 256 x 256")


@pytest.mark.parametrize("name", ["a", "b"])
def test_weights_of_the_public_code(shared: Path, name: str) -> None:
    golden = np.load(shared / "golden" / "egeunet_upstream.npz")
    state = {key[2:]: torch.from_numpy(golden[key]) for key in golden.files if key[:2] == "w:"}
    image, want = (torch.from_numpy(golden[f"{key}_{name}"]) for key in ("x", "mask"))
    contract = ModelContract(*image.shape[2:], normalization="minmax255")
    for what, graph in variants(EGEUNet.from_public_state_dict(state), contract):
        assert_equal(graph, image, want, what)


def test_operators_are_the_networks() -> None:
    operators = build_deploy_graph(EGEUNet().eval(), ModelContract(64, 64)).operators()
    # Six GHPA: two LayerNorms, four slices, three gates. Five GAB: five and eight.
    assert operators["layer_norm"] == 6 * 2 + 5 * 5
    assert operators["slice"] == 6 * 4 + 5 * 8
    assert operators["mul"] == 6 * 3
    assert operators["concat"] == 6 * 1 + 5 * 5
    assert operators["depthwise_conv2d"] == 6 * 2 + 5 * 4
    assert operators["group_norm"] == 10
    assert operators["max_pool"] == 5
    assert operators["sigmoid"] == 1
    # Decoders 2 to 5, the final map, and every GAB but the first, whose sizes agree already.
    assert operators["resize"] == 4 + 1 + 4
    assert operators["gelu"] == 5 + 1 + 5 + 6 * 2


def test_gates_are_constants_and_side_outputs_are_gone() -> None:
    graph = build_deploy_graph(EGEUNet().eval(), ModelContract(64, 96))
    shapes = [
        graph.values[node.inputs[1]].shape for node in graph.nodes if node.op == "mul"
    ]  # fmt: skip
    assert shapes[:3] == [(1, 8, 12, 6), (1, 8, 1, 6), (1, 1, 12, 6)]
    read = {name for node in graph.nodes for name in node.inputs}
    assert {node.output for node in graph.nodes} - read == {graph.output}


def test_weights_are_not_repeated() -> None:
    model = EGEUNet().eval()
    for parameter in model.parameters():  # zeros and ones would be equal to each other
        torch.nn.init.normal_(parameter)
    sides = sum(p.numel() for n, p in model.named_parameters() if ".conv_" in n or "params_" in n)
    gates = 4 * sum(
        g.numel()
        for name, (h, w) in {"encoder4": (8, 12), "encoder5": (4, 6), "encoder6": (2, 3),
                             "decoder1": (2, 3), "decoder2": (2, 3), "decoder3": (4, 6)}.items()
        for g in getattr(model, name)[0].gates(h, w)
    )  # fmt: skip
    graph = build_deploy_graph(model, ModelContract(64, 96))
    total = sum(p.numel() for p in model.parameters())
    last = model.GAB1.tail_conv[1]  # 8 outputs; behind the final convolution one
    folded = last.weight.numel() + last.bias.numel() - last.in_channels - 1
    assert graph.weight_bytes() == 4 * (total - sides - folded) + gates


def test_scopes_name_the_references_modules() -> None:
    model = EGEUNet().eval()
    scopes = {node.scope for node in build_deploy_graph(model, ModelContract(64, 64)).nodes}
    names = {name for name, _ in model.named_children()}
    assert scopes <= names
    assert {name for name in names if name.startswith(("encoder", "decoder", "GAB"))} < scopes


def test_a_network_of_other_input_channels_is_refused() -> None:
    model = EGEUNet(EGEUNetConfig(input_channels=1)).eval()
    with pytest.raises(InputError, match="takes 1 channels"):
        build_deploy_graph(model, ModelContract(64, 64))
