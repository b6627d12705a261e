"""The static graph against the network with static norms, in real arithmetic."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import static_models
from egeunet.export.interpret import _OPERATORS
from egeunet.model import ModelContract
from egeunet.model.errors import InputError
from egeunet.model.layers import ChannelLayerNorm
from egeunet.quantize.static_folding import enlarged_from, is_static, scale_and_centre
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import build_static_graph, static_names
from egeunet.quantize.static_norms import StaticNorm, norm_names
from egeunet.quantize.taps import TappedNetwork
from egeunet.quantize.trained_graph import TrainedGraph
from static_models import CONTRACT, SLICED, graph_of

IMAGES = static_models.images(2)


@pytest.mark.parametrize(
    "changes",
    [{}, {"bridge": False}, {"deep_supervision": False}, {"channels": (4, 8, 12, 20, 24, 28)}],
)
def test_folding_is_exact_in_real_arithmetic(changes: dict[str, object]) -> None:
    model = static_models.static_network(**changes)
    graph = graph_of(model)
    logits, maps = graph(IMAGES.double())
    goal, goals = TappedNetwork(model.double())(IMAGES.double())
    # The graph's constants were rounded to float32.
    assert (logits - goal).abs().max() < 1e-4 * goal.abs().max()
    goals.pop("GAB1", None)  # it gives logits at once
    assert maps.keys() == goals.keys()
    for place, value in maps.items():
        assert value.shape == goals[place].shape
        difference = (value - goals[place]).abs().max() / goals[place].abs().max()
        assert difference < 1e-4, f"{place}: {difference:.3g}"


@pytest.mark.parametrize("kind", ["LayerNorms", "GroupNorms"])
def test_one_kind_static_and_the_other_dissolved(kind: str) -> None:
    names = norm_names(static_models.random_network())
    groups = tuple(name for name in names if name[1:].startswith("bn"))
    layers = tuple(name for name in names if name not in groups)
    assert [len(groups), len(layers)] == [10, 37]
    static = {"GroupNorms": groups, "LayerNorms": layers}[kind]
    model = static_models.static_network(static=static)
    logits, _ = graph_of(model)(IMAGES.double())
    goal = model.double()(IMAGES.double()).logits
    assert (logits - goal).abs().max() < 1e-4 * goal.abs().max()


def test_the_structure_depends_on_configuration_and_form_only() -> None:
    def structure(seed: int, form: StaticForm) -> str:
        model = static_models.static_network(seed)
        return build_static_graph(model, CONTRACT, form).graph.structure_sha256()

    assert structure(0, SLICED) == structure(1, SLICED)
    forms = [StaticForm(levels, gelu="table") for levels in ((), (1,), (1, 2))]
    assert len({structure(0, form) for form in (*forms, StaticForm())}) == 4


def test_gelu_by_sigmoid_scales_every_map_and_no_probability() -> None:
    model = static_models.static_network()
    graph = graph_of(model, StaticForm(dense_bridges=()))
    assert "gelu" not in graph.static.graph.operators()
    logits, maps = graph(IMAGES.double())
    table = graph_of(model)
    approximate = pytest.MonkeyPatch()
    with approximate.context() as patch:
        patch.setitem(_OPERATORS, "gelu", lambda _, x: x[0] * torch.sigmoid(1.702 * x[0]))
        goal, goals = table(IMAGES.double())
    assert (logits - goal).abs().max() < 1e-4 * goal.abs().max()
    assert (logits - table(IMAGES.double())[0]).abs().max() > 1e-3 * goal.abs().max()
    for place, value in maps.items():
        assert (value - goals[place]).abs().max() < 1e-4 * goals[place].abs().max(), place


def test_evened_depthwise_kernels_compute_the_same() -> None:
    model = static_models.static_network()
    plain, evened = (
        graph_of(model, StaticForm((), scales, "relu")) for scales in ("channel", "all-tensor")
    )
    assert {"gelu", "relu"} & evened.static.graph.operators().keys() == {"relu"}
    goal, goals = plain(IMAGES.double())
    logits, maps = evened(IMAGES.double())
    assert (logits - goal).abs().max() < 1e-4 * goal.abs().max()
    for place, value in maps.items():
        assert (value - goals[place]).abs().max() < 1e-4 * goals[place].abs().max(), place

    def unevenness(graph: TrainedGraph) -> float:
        """Mean over depthwise kernels of their strongest channel by their weakest."""
        nodes = [n for n in graph.static.graph.nodes if n.op == "depthwise_conv2d"]
        peaks = [graph.constants[n.inputs[1]].detach().abs().amax((0, 1, 2)) for n in nodes]
        return float(np.mean([float(peak.max() / peak.min()) for peak in peaks]))

    assert unevenness(evened) < 0.5 * unevenness(plain)


@pytest.mark.parametrize("names", [("ebn1", "dbn4"), ("encoder4.0.norm1",)])
def test_dynamic_norms_beside_static_ones(names: tuple[str, ...]) -> None:
    form = StaticForm((), gelu="table", dynamic_norms=names)
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    logits, _ = graph_of(model, form)(IMAGES.double())
    goal = model.double()(IMAGES.double()).logits
    assert (logits - goal).abs().max() < 1e-4 * goal.abs().max()


def test_norms_that_stay_dynamic() -> None:
    model = static_models.random_network()
    assert len(static_names(model, StaticForm(dynamic_norms=("ebn1", "dbn4")))) == 45
    static = static_names(model, StaticForm(dynamic_norms=("GAB5", "GAB4.g0", "encoder4")))
    assert len(static) == 47 - 5 - 1 - 2
    assert "GAB4.g1.0" in static and "ebn4" in static
    with pytest.raises(InputError, match="no norm is called 'ebn7'; there are 47"):
        static_names(model, StaticForm(dynamic_norms=("ebn7",)))
    with pytest.raises(InputError, match=r"needs static norms throughout, encoder4\.0\.norm1"):
        build_static_graph(model, CONTRACT)


def test_no_norm_is_left_and_gates_are_grids() -> None:
    contract = ModelContract(256, 256)
    graph = build_static_graph(static_models.static_network(), contract).graph
    assert not {"mean", "rsqrt", "maximum"} & graph.operators().keys()
    assert max(value.data.size for value in graph.constants() if value.data is not None) < 5000
    enlarged = [
        node for node in graph.nodes
        if node.op == "resize" and graph.values[node.inputs[0]].data is not None
    ]  # fmt: skip
    assert [node.scope for node in enlarged] == ["encoder4", "encoder5", "decoder3"]


def test_half_of_a_gab_cannot_be_folded() -> None:
    for names in (("GAB3.g1.0",), ("GAB3.tail_conv.0",)):
        model = static_models.static_network(static=names)
        with pytest.raises(InputError, match=r"1 of a GAB's 5 norms are static; .* but the last"):
            build_static_graph(model, CONTRACT, SLICED)
    assert not is_static(model.GAB2)


#: The modules that are GHPAs.
ATTENTION = (*(f"encoder{n}" for n in (4, 5, 6)), *(f"decoder{n}" for n in (1, 2, 3)))


def test_brief_norms_of_maps_that_are_not_pooled_are_the_norms() -> None:
    form = StaticForm((), gelu="table", dynamic_norms=("dbn4", "dbn5", *ATTENTION))
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    for name in ATTENTION:  # an offset before padding is a bias behind it, which is not the same
        norm = getattr(model, name)[0].norm2
        nn.init.zeros_(norm.bias)
        norm.register_forward_hook(lambda norm, x, _: by_mean_square(norm, x[0], x[0]))
    found = graph_of(model, replace(form, brief_norms=True))(IMAGES.double())[0]
    goal = model.double()(IMAGES.double()).logits
    assert (found - goal).abs().max() < 1e-4 * goal.abs().max()


def by_mean_square(norm: nn.Module, x: torch.Tensor, numerator: torch.Tensor) -> torch.Tensor:
    """A LayerNorm's affine of ``numerator`` over the root of the mean square of ``x``."""
    assert isinstance(norm, ChannelLayerNorm)
    normed = numerator / torch.sqrt(x.square().mean(1, keepdim=True) + norm.eps)
    return norm.weight[:, None, None] * normed + norm.bias[:, None, None]


def test_the_last_norm_of_a_gab_divides_by_the_mean_square() -> None:
    form = StaticForm((), gelu="table", dynamic_norms=("GAB3.tail_conv.0",))
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    assert is_static(model.GAB3)
    for branch in model.GAB3.groups:  # training has to find what biases are behind a division
        nn.init.zeros_(branch[1].bias)

    model.GAB3.tail_conv[0].register_forward_hook(
        lambda norm, x, _: by_mean_square(norm, x[0], x[0] - x[0].mean(1, keepdim=True))
    )
    for scales in ("channel", "all-tensor"):  # kernels of one range weigh the squares
        found = graph_of(model, replace(form, kernel_scales=scales))(IMAGES.double())[0]
        goal = copy.deepcopy(model).double()(IMAGES.double()).logits
        assert (found - goal).abs().max() < 1e-4 * goal.abs().max()


def test_brief_norms_are_fewer_operators_on_the_pooled_map() -> None:
    form = StaticForm((), gelu="relu", dynamic_norms=("ebn1", "ebn4", "dbn4", "dbn5"))
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    plain, brief = (
        build_static_graph(model, ModelContract(256, 256), replace(form, brief_norms=brief)).graph
        for brief in (False, True)
    )
    assert len(brief.nodes) < len(plain.nodes) - 6
    assert brief.weight_bytes() < plain.weight_bytes() - 3000
    assert "maximum" not in brief.operators()
    for scope, wanted in (("encoder1", ["mean", "sub"]), ("encoder4", ["reshape"])):
        (pool,) = [n.output for n in brief.nodes if n.op == "max_pool" and n.scope == scope]
        readers = [n for n in brief.readers(pool) if n.scope == f"{scope}/group_norm"]
        assert [n.op for n in readers] == wanted


def test_scale_and_centre_is_the_norm_but_for_what_nobody_reads() -> None:
    norm = StaticNorm(3).eval()
    norm.running_mean.copy_(torch.tensor([0.5, 0.0, 0.0]))  # type: ignore[union-attr]
    norm.weight.data.copy_(torch.tensor([2.0, -1.0, 1e-9]))
    norm.bias.data.copy_(torch.tensor([1.0, 0.5, 3.0]))
    scale, centre = scale_and_centre(norm)
    x = np.array([0.7, -0.3, 0.2])
    goal = norm(torch.tensor(x, dtype=torch.float32)[None, :, None, None])[0, :, 0, 0]
    assert scale[:2] * (x[:2] - centre[:2]) == pytest.approx(goal[:2].detach().numpy(), abs=1e-5)
    assert abs(centre[2]) <= 4.01  # not 3e9


def test_a_grid_is_recovered_from_its_enlargement() -> None:
    grid = torch.randn(1, 3, 8, 8)
    full = nn.functional.interpolate(grid, (32, 20), mode="bilinear", align_corners=True)
    found = enlarged_from(full.permute(0, 2, 3, 1).numpy(), 8)
    assert found == pytest.approx(grid.permute(0, 2, 3, 1).numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"dense_bridges": (0,)}, "levels 1 to 5"),
        ({"summed_bridges": (6,)}, "summed_bridges must be levels 1 to 5"),
        ({"rectified_bridges": (0,)}, "rectified_bridges must be levels 1 to 5"),
        ({"four_bit_inputs": 0}, "four_bit_inputs must lie in 1..1024, got 0"),
        ({"kernel_scales": "row"}, "got 'row'"),
        ({"gelu": "tanh"}, "table or sigmoid or relu, got 'tanh'"),
        ({"pointwise_bits": 6}, "8 or 4, got 6"),
        ({"scale_steps": -1}, "scale_steps must lie in 0..64, got -1"),
        ({"optimize": "bytes"}, "speed or size, got 'bytes'"),
    ],
)
def test_a_form_that_does_not_exist(form: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StaticForm(**form)  # type: ignore[arg-type]
