"""Maps in float32 with integer kernels: which, and that norms in fewer operators are the norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import static_models
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.finetune_plan import ATTENTION, GROUP_NORMS, PLANS
from egeunet.quantize.int8 import is_hybrid, quantize_int8
from egeunet.quantize.scale_ties import in_layer_norm, small_outputs, stays_float
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import build_static_graph, static_names
from egeunet.quantize.trained_graph import TrainedGraph

CONTRACT = ModelContract(static_models.SIZE, static_models.SIZE)
IMAGES = static_models.images(2)
BRIDGES = tuple(f"GAB{level}" for level in range(1, 6))
ALL = StaticForm((), gelu="table", dynamic_norms=(*GROUP_NORMS, *ATTENTION, *BRIDGES))


@pytest.mark.parametrize("pixels", [4, 8 * 8, 16 * 16, 64 * 64])
@pytest.mark.parametrize("changes", [{}, {"deep_supervision": False}, {"bridge": False}], ids=str)
def test_norms_of_small_maps_are_the_norms(pixels: int, changes: dict[str, object]) -> None:
    model = static_models.random_network(**changes)
    names = tuple(n for n in ALL.dynamic_norms if changes != {"bridge": False} or "GAB" not in n)
    for name in ATTENTION:  # an offset before padding is a bias behind it, which is not the same
        nn.init.zeros_(getattr(model, name)[0].norm2.bias)
    form = replace(ALL, dynamic_norms=names, float_pixels=pixels)
    found = TrainedGraph(build_static_graph(model, CONTRACT, form)).double()(IMAGES.double())[0]
    goal = model.double()(IMAGES.double()).logits
    assert (found - goal).abs().max() < 1e-3 * goal.abs().max()  # epsilon apart


def test_they_are_fewer_operators() -> None:
    model, contract = static_models.random_network(), ModelContract(256, 256)
    plain, small = (
        build_static_graph(model, contract, replace(ALL, float_pixels=pixels)).graph
        for pixels in (0, 32 * 32)
    )
    assert len(small.nodes) < len(plain.nodes) - 50
    assert small.operators().get("maximum", 0) < plain.operators()["maximum"]


def shipped_form_graph() -> tuple[Graph, StaticForm]:
    form = PLANS["isic2017-int8"].form
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    return build_static_graph(model, ModelContract(256, 256), form).graph, form


def test_which_nodes_of_the_shipped_form_are_float32() -> None:
    graph, form = shipped_form_graph()
    small = small_outputs(graph, form.float_pixels)
    integer = [node for node in graph.nodes if node.output not in small]
    assert not any(stays_float(node) or in_layer_norm(node) for node in integer)
    wide = [n for n in graph.nodes if n.op == "conv2d" and graph.values[n.inputs[1]].shape[1] == 3]
    assert len(wide) == 9 and all(node in integer for node in wide)
    assert {node.op for node in integer} == {
        "conv2d",
        "max_pool",
        "add",
        "resize",
        "relu",
        "sigmoid",
    }
    # The sums of one-channel maps behind GAB1 have integers before and behind.
    assert all(node in integer for node in graph.nodes if node.op == "add" and node.scope == "GAB1")
    assert small_outputs(graph, 0) == frozenset()


def test_kernels_and_maps_are_integers_and_vectors_are_not() -> None:
    graph, form = shipped_form_graph()
    small = small_outputs(graph, form.float_pixels)
    ranges = {node.output: (-1.0, 1.0) for node in graph.nodes} | {graph.input: (0.0, 1.0)}
    calibration = Calibration(ranges, "", 1, "", 256, 256)
    quantized = quantize_int8(
        graph, calibration, ModelContract(256, 256), kernel_scales="all-tensor",
        pointwise_bits=4, four_bit_inputs=48, float_pixels=form.float_pixels,
    )  # fmt: skip
    values = quantized.values
    hybrid = [n for n in quantized.nodes if n.op == "fully_connected"
              and values[n.inputs[0]].dtype == "float32"]  # fmt: skip
    assert {values[node.inputs[1]].dtype for node in hybrid} == {"int8", "int4"}
    assert {values[node.inputs[2]].dtype for node in hybrid} == {"float32"}
    for node in quantized.nodes:
        if node.op == "depthwise_conv2d":
            kernel = values[node.inputs[1]].data  # None: dequantized as the file is loaded
            assert kernel is None or kernel.dtype == np.int8 or kernel.size <= 64
    floats = [
        v.data.size for v in quantized.constants() if v.dtype == "float32" and v.data is not None
    ]
    assert max(floats) <= 100  # a bias of GAB5's depthwise convolutions, four runs of 25
    assert any(is_hybrid(graph, node, small) for node in graph.nodes)


@given(side=st.sampled_from([4, 16, 64]), pixels=st.sampled_from([0, 16, 256, 4096]))
def test_a_value_is_small_by_its_pixels_whatever_its_shape(side: int, pixels: int) -> None:
    b = GraphBuilder((1, side, side, 8))
    grouped = b.reshape(b.input, (1, side * side, 4, 2))
    centred = b.sub(grouped, b.mean(grouped, (3,)))
    square = b.elementwise("rsqrt", b.mean(b.mul(centred, centred), (3,)))
    graph = b.finish(b.reshape(b.mul(centred, square), (1, side, side, 8)))
    # An input is an integer, whatever its size: nothing here is read from small maps.
    assert small_outputs(graph, pixels) == ({square} if pixels else set())
    pooled = b.max_pool(graph.output)
    normed = b.elementwise("gelu", b.mul(pooled, b.mean(pooled, (3,))))
    graph = b.finish(normed)
    fits = pixels and (side // 2) ** 2 <= pixels
    assert (graph.nodes[-2].output in small_outputs(graph, pixels)) == bool(fits)


def test_a_hybrid_network_runs_in_one_partition_and_without_xnnpack() -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    _, form = shipped_form_graph()
    network = TrainedGraph(build_static_graph(
        static_models.static_network(static=static_names(static_models.random_network(), form)),
        CONTRACT, form,
    ))  # fmt: skip
    network.set_bounds(network.observe(IMAGES))
    calibration = Calibration(network.calibration_ranges(), "", 2, "", 64, 64)
    quantized = quantize_int8(
        network.trained(), calibration, CONTRACT, float_pixels=form.float_pixels
    )
    data, found = emit_tflite(quantized, CONTRACT), []
    image = (IMAGES[:1] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    for options in ({}, {"experimental_op_resolver_type": plain}):
        model = litert.Interpreter(model_content=data, num_threads=1, **options)
        model.allocate_tensors()
        model.set_tensor(model.get_input_details()[0]["index"], image)
        model.invoke()
        found.append(model.get_tensor(model.get_output_details()[0]["index"]).astype(int))
    assert np.abs(found[0] - found[1]).mean() < 3


def test_a_dropped_bridge_adds_the_skip_map() -> None:
    model = static_models.random_network()
    form = replace(ALL, dropped_bridges=(5,), float_pixels=64)
    graph = build_static_graph(model, CONTRACT, form).graph
    assert [node.op for node in graph.nodes if node.scope.startswith("GAB5")] == ["add"]
    for name in ATTENTION:
        nn.init.zeros_(getattr(model, name)[0].norm2.bias)
    found = TrainedGraph(build_static_graph(model, CONTRACT, form)).double()(IMAGES.double())[0]
    model.GAB5.register_forward_hook(lambda module, inputs, output: inputs[1])
    goal = model.double()(IMAGES.double()).logits
    assert (found - goal).abs().max() < 1e-3 * goal.abs().max()


def test_brief_attention_is_the_second_half_of_a_ghpa() -> None:
    model = static_models.random_network()
    form = replace(ALL, brief_attention=("encoder6", "decoder1"), float_pixels=64)
    for name in ATTENTION:
        nn.init.zeros_(getattr(model, name)[0].norm2.bias)
    found = TrainedGraph(build_static_graph(model, CONTRACT, form)).double()(IMAGES.double())[0]
    for name in form.brief_attention:
        block = getattr(model, name)[0]
        block.register_forward_hook(
            lambda module, inputs, output: module.ldw(module.norm2(inputs[0]))
        )
    goal = model.double()(IMAGES.double()).logits
    assert (found - goal).abs().max() < 1e-3 * goal.abs().max()
    with pytest.raises(InputError, match="no GHPA is called 'encoder1'; there are encoder4"):
        build_static_graph(model, CONTRACT, replace(ALL, brief_attention=("encoder1",)))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"dropped_bridges": (1,)}, "dropped_bridges must be levels 2 to 5: GAB1"),
        ({"float_pixels": -1}, "float_pixels must lie in 0..2\\*\\*20, got -1"),
        ({"hadamard_side": 9}, "hadamard_side must lie in 2..8, got 9"),
    ],
    ids=str,
)
def test_choices_out_of_range(choice: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        StaticForm(**choice)  # type: ignore[arg-type]


def test_a_smaller_grid_of_a_hadamard_map_is_the_nearest_one() -> None:
    """Maps that such a grid can make are kept."""
    model = static_models.random_network()
    counts = []
    for side in (8, 4, 2):
        graph = build_static_graph(model, CONTRACT, replace(ALL, hadamard_side=side)).graph
        sources = [graph.values[n.inputs[0]] for n in graph.nodes if n.op == "resize"]
        counts.append(
            sum(one.shape[1:3] == (side, side) for one in sources if one.data is not None)
        )
    assert counts == [0, 1, 3]
    outputs = []
    for side in (8, 4):
        form = replace(ALL, hadamard_side=side)
        network = TrainedGraph(build_static_graph(model, CONTRACT, form)).double()
        outputs.append(network(IMAGES.double())[0])
    assert torch.isfinite(outputs[1]).all()
    assert (outputs[0] - outputs[1]).abs().mean() < outputs[0].abs().mean()
