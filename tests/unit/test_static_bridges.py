"""Bridges of the static graph that are folded further: dense, summed, halved, rectified."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import static_models
from egeunet.export.graph import GraphBuilder
from egeunet.export.interpret import _OPERATORS, compute
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.dense_bridge import dense_bridge
from egeunet.quantize.static_bridge import static_bridge
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import StaticTranslator, build_static_graph, static_names
from egeunet.quantize.trained_graph import TrainedGraph
from static_models import CONTRACT, graph_of

IMAGES = static_models.images(2)


@pytest.mark.parametrize("level", [1, 3])
def test_a_dense_bridge_is_exact_for_constant_maps_and_for_the_skip_map(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egeunet.quantize.dense_bridge._SMALLEST_GAIN", 1e-6)
    torch.manual_seed(level)
    model = static_models.static_network(level)
    bridge, mask = getattr(model, f"GAB{level}"), getattr(model, f"gt_conv{6 - level}")[0]
    parts = static_bridge(bridge, mask)
    if level == 1:  # one output: as the network's last GAB is used
        parts = parts.behind(torch.randn(1, 8).numpy())
    dense = dense_bridge(parts)
    deep, guide = torch.randn(dense.deep[0].shape[1]), torch.randn(mask.in_channels)
    channels = dense.kernels[0].shape[3]
    skip = torch.randn(1, channels, 24, 24)
    found, goal = (torch.zeros(1, len(parts.tail[1]), 24, 24) for _ in range(2))
    lifted = torch.tensor(dense.deep[0]) @ deep + torch.tensor(dense.deep[1])
    assert dense.guide is not None and parts.guide is not None
    lifted += torch.tensor(dense.guide[0]) @ guide + torch.tensor(dense.guide[1])
    for kernel, bias, dilation in zip(dense.kernels, dense.biases, dense.dilations, strict=True):
        found += nn.functional.conv2d(
            skip + lifted[:, None, None], torch.tensor(kernel).permute(0, 3, 1, 2),
            torch.tensor(bias, dtype=torch.float32), padding=dilation, dilation=dilation,
        )  # fmt: skip
    projected = torch.tensor(parts.deep[0]) @ deep + torch.tensor(parts.deep[1])
    logit = torch.tensor(parts.guide[0]) @ guide + torch.tensor(parts.guide[1])
    mixed = []
    for index, part in enumerate(projected.chunk(4)):
        flat = part[:, None, None].expand(-1, 24, 24)
        joined = torch.cat((flat, skip.chunk(4, dim=1)[index][0], logit.expand(1, 24, 24)))[None]
        kernel, dilation = torch.tensor(parts.kernels[index]), parts.dilations[index]
        mixed.append(
            nn.functional.conv2d(
                joined, kernel.permute(3, 0, 1, 2), torch.tensor(parts.biases[index]),
                padding=dilation, dilation=dilation, groups=joined.shape[1],
            )
        )  # fmt: skip
    weight, constant = map(torch.tensor, parts.tail)
    goal = torch.einsum("oc,nchw->nohw", weight, torch.cat(mixed, 1)) + constant[:, None, None]
    inner = (..., slice(7, -7), slice(7, -7))
    assert (found[inner] - goal[inner]).abs().max() < 0.01 * goal.abs().max()


def random_maps(level: int, model: EGEUNet) -> dict[str, torch.Tensor]:
    """Inputs of a GAB whose deep map is constant, (1, C, h, w) each."""
    channels = model.config.channels
    skip = torch.randn(1, channels[level - 1], 24, 24)
    deep = torch.randn(1, channels[level], 1, 1).expand(-1, -1, 12, 12)
    return {"deep": deep, "skip": skip}


def test_a_summed_bridge_treats_skip_and_deep_map_as_the_reference_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("egeunet.quantize.dense_bridge._SMALLEST_GAIN", 1e-6)
    torch.manual_seed(3)
    model = static_models.static_network(3)
    nn.init.zeros_(model.gt_conv3[0].bias)
    maps = random_maps(3, model)
    maps["x"] = torch.zeros(1, 24, 24, 24)  # it stands for the mask, which training has to find
    goal = model.GAB3(maps["deep"], maps["skip"], model.gt_conv3(maps["x"]))
    builder = GraphBuilder((1, 24, 24, 24), "skip")
    for name in ("deep", "x"):
        shape = maps[name].permute(0, 2, 3, 1).shape
        builder.values[name] = replace(builder.values["skip"], name=name, shape=tuple(shape))
    builder.scope = "GAB3"
    form = StaticForm((), "channel", "relu", summed_bridges=(3,))
    parts = static_bridge(model.GAB3, model.gt_conv3[0])
    output = StaticTranslator(builder, form).static_bridge(parts, "deep", "skip", "x")
    values = {name: value.permute(0, 2, 3, 1) for name, value in maps.items()}
    for node in builder.nodes:
        inputs = [
            values[n] if n in values else torch.from_numpy(builder.values[n].data)
            for n in node.inputs
        ]
        values[node.output] = compute(node, inputs)
    found = values[output].permute(0, 3, 1, 2)
    inner = (..., slice(8, -8), slice(8, -8))
    assert (found[inner] - goal[inner]).abs().max() < 0.01 * goal.abs().max()
    assert sum(node.op == "slice" for node in builder.nodes) == 4


@pytest.mark.parametrize("gelu", ["relu", "table"])
def test_a_halved_bridge_changes_only_what_is_dilated(gelu: str) -> None:
    """Without the dilated kernels it is the dense form, the last decoder map's resize apart, and
    that commutes with ReLU before it but not with GELU behind it."""
    contract = ModelContract(64, 64)
    model = static_models.static_network(5)
    for index in (1, 2, 3):
        getattr(model.GAB1, f"g{index}")[1].weight.zero_()
    for pool in ("dense", "halved"):
        form = StaticForm((1,), "channel", gelu, halved_bridge=pool == "halved")
        logits, _ = TrainedGraph(build_static_graph(model, contract, form)).double()(
            IMAGES.double()
        )
        if pool == "dense":
            goal = logits
    bound = {"relu": 1e-4, "table": 0.1}[gelu]
    assert (logits - goal).abs().max() < bound * goal.abs().max()


def test_a_halved_bridge_needs_what_it_is_made_of() -> None:
    with pytest.raises(InputError, match="halved_bridge needs 1 among dense_bridges"):
        StaticForm((2,), gelu="relu", halved_bridge=True)
    with pytest.raises(InputError, match="gelu 'relu' or 'table', got 'sigmoid'"):
        StaticForm((1,), gelu="sigmoid", halved_bridge=True)


@pytest.mark.parametrize("choice", [{"dense_bridges": (3,)}, {"summed_bridges": (3,)}], ids=str)
def test_a_form_without_a_place_for_a_gab_s_last_norm(choice: dict[str, tuple[int, ...]]) -> None:
    form = StaticForm(**{"dense_bridges": (), "gelu": "table", **choice})  # type: ignore[arg-type]
    form = replace(form, dynamic_norms=("GAB3.tail_conv.0",))
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    with pytest.raises(InputError, match="GAB3 is among dense_bridges or summed_bridges"):
        build_static_graph(model, CONTRACT, form)


@pytest.mark.parametrize("halved", [False, True])
def test_a_rectified_bridge_is_the_bridge_but_for_its_relus(
    halved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = static_models.static_network()
    form = StaticForm((1,), "channel", "table", summed_bridges=(2,), halved_bridge=halved)
    goal = graph_of(model, form)(IMAGES.double())[0]
    graph = graph_of(model, replace(form, rectified_bridges=(1, 2, 3)))
    relus = [node.scope for node in graph.static.graph.nodes if node.op == "relu"]
    assert sorted(relus) == ["GAB1", "GAB2", "GAB3", "GAB3"]
    assert (graph(IMAGES.double())[0] - goal).abs().max() > 1e-3 * goal.abs().max()
    monkeypatch.setitem(_OPERATORS, "relu", lambda _, inputs: inputs[0])
    assert (graph(IMAGES.double())[0] - goal).abs().max() < 1e-6 * goal.abs().max()
