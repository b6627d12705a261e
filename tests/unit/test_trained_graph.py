"""The network that trains a graph computes what its integer file computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import static_models
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import EGEUNet, load_weights
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.finetune_plan import PLANS
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.packed import pack
from egeunet.quantize.scale_ties import float_outputs
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import StaticGraph, build_static_graph, static_names
from egeunet.quantize.static_norms import norm_names, with_static_norms
from egeunet.quantize.trained_graph import TrainedGraph, grid, scale_groups
from static_models import CONTRACT

Build = Callable[[GraphBuilder], str]

RELU = StaticForm((1,), "all-tensor", "relu", scale_steps=4)
FINETUNED = PLANS["isic2017"].form
SMALL = StaticForm((1,), "all-tensor", "relu", (), 4, 2, "size")
IMAGES = static_models.images(3)


@pytest.fixture(scope="module")
def fitted() -> EGEUNet:
    """The shipped network with static norms: unlike random ones it does not magnify rounding."""
    model, _ = load_weights()
    static = with_static_norms(model, norm_names(model), IMAGES)
    static.final.bias.data -= static(IMAGES).logits.mean()  # or all of them are background
    return static


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def integer_network(fitted: EGEUNet, form: StaticForm) -> TrainedGraph:
    network = TrainedGraph(build_static_graph(fitted, CONTRACT, form))
    network.set_bounds(network.observe(IMAGES))
    network.integer = True
    with torch.no_grad():
        network.growth.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(1))
    return network


def quantized(network: TrainedGraph) -> Graph:
    calibration = Calibration(network.calibration_ranges(), "", 3, "", 64, 64)
    graph, form = network.trained(), network.static.form
    kept = float_outputs(graph)
    how = form.kernel_scales, form.pointwise_bits, form.scale_steps, form.four_bit_inputs
    return quantize_int8(graph, calibration, CONTRACT, "uint8", kept, *how, form.float_pixels)


def run_file(data: bytes, images_nchw: torch.Tensor) -> np.ndarray:
    """Probability (N, H, W, C) of a uint8 file, by LiteRT."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    model = interpreter.Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    found = []
    for image in (images_nchw * 255).round().byte().permute(0, 2, 3, 1).numpy():
        model.set_tensor(model.get_input_details()[0]["index"], image[None])
        model.invoke()
        found.append(model.get_tensor(model.get_output_details()[0]["index"])[0] / 256)
    return np.stack(found)


@pytest.mark.parametrize(
    "form", [StaticForm(), StaticForm((), "channel", "table"), StaticForm((1, 2)), RELU, SMALL]
)
def test_integer_mode_is_what_litert_computes(fitted: EGEUNet, form: StaticForm) -> None:
    network = integer_network(fitted, form)
    with torch.no_grad():
        logits, _ = network(IMAGES)
        network.integer = False
        floats, _ = network(IMAGES)
    ours, real = (torch.sigmoid(x)[:, 0].numpy() for x in (logits, floats))
    packed = pack(quantized(network), form.optimize)
    assert "relu" not in packed.operators()
    file = run_file(emit_tflite(packed, CONTRACT), IMAGES)[..., 0]
    difference, rounding = np.abs(file - ours), np.abs(real - ours)
    seen = f"max {difference.max():.3g}, mean {difference.mean():.3g} of {rounding.mean():.3g}"
    assert difference.mean() < 0.01, seen
    assert difference.mean() < 0.5 * rounding.mean(), seen  # or else float would do as well


@pytest.mark.parametrize(
    "form",
    [
        StaticForm(gelu="table", dynamic_norms=("ebn1",)),
        replace(RELU, dynamic_norms=("ebn1", "dbn4", "encoder4.0.norm1")),
        replace(
            FINETUNED,
            dynamic_norms=("ebn1", "dbn4", "encoder4", "GAB4.tail_conv.0"),
        ),
        PLANS["isic2017-int8"].form,
        replace(PLANS["isic2017-int8"].form, float_pixels=8 * 8),
    ],
    ids=str,
)
def test_a_dynamic_norm_computes_in_float32_in_both(form: StaticForm) -> None:
    model, _ = load_weights()
    static = with_static_norms(model, static_names(model, form), IMAGES)
    static.final.bias.data -= static(IMAGES).logits.mean()
    network = integer_network(static, form)
    with torch.no_grad():
        ours = torch.sigmoid(network(IMAGES)[0])[:, 0].numpy()
    graph = quantized(network)
    assert "dequantize" in graph.operators()
    assert "relu" not in pack(graph).operators()
    difference = np.abs(run_file(emit_tflite(pack(graph), CONTRACT), IMAGES)[..., 0] - ours)
    assert difference.mean() < 0.01, f"max {difference.max():.3g}, mean {difference.mean():.3g}"


def _conv(dilation: int) -> Build:
    def build(b: GraphBuilder) -> str:
        inputs = b.input, b.constant(_random(3, 3, 3, 4)), b.constant(_random(3))
        return b.add_node("conv2d", inputs, (1, 12, 10, 3), dilation=dilation)

    return build


def _rejoined(b: GraphBuilder, x: str) -> str:
    return b.concat([b.slice(x, 1, 2), b.elementwise("gelu", x), b.slice(x, 3, 1)])


OPERATORS: dict[str, Build] = {
    "conv2d": _conv(1),
    "dilated conv2d": _conv(5),
    "1x1 conv2d": lambda b: b.conv2d(b.input, _random(6, 1, 1, 4), _random(6)),
    "depthwise_conv2d": lambda b: b.depthwise_conv2d(b.input, _random(1, 3, 3, 4), _random(4), 2),
    "add": lambda b: b.add(b.elementwise("gelu", b.input), b.input),
    "sub": lambda b: b.sub(b.input, b.constant(_random(4))),
    "mul": lambda b: b.mul(b.input, b.constant(_random(1, 12, 1, 4))),
    "gelu": lambda b: b.elementwise("gelu", b.sub(b.input, b.constant(_random(4)))),
    "sigmoid": lambda b: b.sub(b.elementwise("sigmoid", b.input), b.constant(_random(4))),
    "max_pool": lambda b: b.max_pool(b.sub(b.input, b.constant(_random(4)))),
    "resize": lambda b: b.resize(b.sub(b.input, b.constant(_random(4))), 23, 31),
    "relu": lambda b: b.sub(
        b.elementwise("relu", b.sub(b.input, b.constant(_random(4)))), b.constant(_random(4))
    ),
    "conv2d, relu": lambda b: b.elementwise("relu", _conv(1)(b)),
    "conv2d, max_pool, relu": lambda b: b.elementwise("relu", b.max_pool(_conv(1)(b))),
    "depthwise_conv2d without bias": lambda b: b.add_node(
        "depthwise_conv2d", (b.input, b.constant(_random(1, 3, 3, 4))), (1, 12, 10, 4), dilation=2
    ),
    "concat": lambda b: _rejoined(b, b.sub(b.input, b.constant(_random(4)))),
}


@pytest.mark.parametrize(
    "how", [("channel", 0), ("tensor", 0), ("all-tensor", 4)], ids=lambda how: how[0]
)
@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_rounds_as_litert_does(name: str, how: tuple[str, int]) -> None:
    form = StaticForm((), how[0], "table", scale_steps=how[1])
    b = GraphBuilder((1, 12, 10, 4))
    graph = b.finish(b.elementwise("sigmoid", OPERATORS[name](b)))
    network = TrainedGraph(StaticGraph(graph, {}, form))
    image = torch.rand(1, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    image = (image * 255).round() / 255
    network.set_bounds(network.observe(image))
    network.integer = True
    with torch.no_grad():
        ours = torch.sigmoid(network(image)[0]).permute(0, 2, 3, 1).numpy() * 256
    found = run_file(emit_tflite(pack(quantized(network)), CONTRACT), image) * 256
    difference = np.abs(found - ours.clip(0, 255))
    # The file's probability is rounded. Where a sum lies between two steps of a logit, they may
    # part; such a step is several of the probability's.
    assert difference.max() < 6, f"max {difference.max():.3g}, mean {difference.mean():.3g}"
    assert (difference <= 0.51).mean() > 0.95


@pytest.mark.parametrize("form", [StaticForm(), RELU, SMALL], ids=["default", "relu", "small"])
def test_the_file_has_exactly_the_trained_scales(fitted: EGEUNet, form: StaticForm) -> None:
    network = integer_network(fitted, form)
    graph, steps = quantized(network), form.scale_steps
    network_grids = {
        name: [float(part) for part in grid(*network.current_bounds().detach()[group], steps)]
        for name, group in network.groups.items()
        if network.static.graph.values[name].data is None
    }
    sigmoids = {n.output for n in network.static.graph.nodes if n.op == "sigmoid"}
    network_grids |= {name: [1 / 256, -128.0] for name in sigmoids}
    # Nodes keep their order; the quantizer adds a QUANTIZE at either end.
    found = [graph.values[node.output] for node in graph.nodes if node.op != "quantize"]
    names = [node.output for node in network.static.graph.nodes]
    for name, value in zip(names[:-1], found[:-1], strict=True):
        assert value.quantization is not None
        scale, zero = network_grids[name]
        assert value.quantization.scale[0] == pytest.approx(scale, rel=2e-6), name
        assert value.quantization.zero_point[0] == zero, name


def test_no_float_operator_is_left(fitted: EGEUNet) -> None:
    graph = pack(quantized(integer_network(fitted, StaticForm())))
    assert {value.dtype for value in graph.values.values()} == {"uint8", "int8", "int32"}


def test_what_dynamic_norms_are_made_of_is_not_trained() -> None:
    form = replace(RELU, dynamic_norms=("ebn2", "encoder4.0.norm1"))
    model, _ = load_weights()
    static = with_static_norms(model, static_names(model, form), IMAGES)
    network = TrainedGraph(build_static_graph(static, CONTRACT, form))
    network.trainable()
    graph = network.static.graph
    trained = {name for name, value in network.constants.items() if value.requires_grad}
    scopes = ("encoder2/group_norm", "encoder4/layer_norm")
    last = dict.fromkeys(scopes, 0)
    for place, node in enumerate(graph.nodes):
        if node.op == "rsqrt":
            last[node.scope] = place
    for place, node in enumerate(graph.nodes):
        # Up to the deviation a norm is as it is; what scales and shifts its result is trained.
        frozen = node.scope in scopes and place < last[node.scope]
        constants = {name for name in node.inputs if graph.values[name].data is not None}
        assert constants.isdisjoint(trained) if frozen else constants <= trained, node
    behind = [
        name
        for place, node in enumerate(graph.nodes)
        if node.scope in scopes and place > last[node.scope]
        for name in node.inputs
        if name in trained
    ]
    assert len(behind) >= 3  # gamma and beta of the one, beta of the other
    assert 0 < len(trained) < len(network.constants)


def test_what_a_relu_cuts_off_takes_no_steps() -> None:
    b = GraphBuilder((1, 4, 4, 1))
    shifted = b.sub(b.input, b.constant(np.full(1, 0.5, np.float32)))
    kept = b.sub(b.input, b.constant(np.full(1, 0.5, np.float32)))
    pooled = b.max_pool(shifted)
    both = b.add(b.elementwise("relu", pooled), b.resize(b.elementwise("relu", kept), 2, 2))
    graph = b.finish(b.elementwise("sigmoid", b.add(both, b.max_pool(kept))))
    network = TrainedGraph(StaticGraph(graph, {}, RELU))
    network.set_bounds(network.observe(torch.linspace(0, 1, 16).reshape(1, 1, 4, 4)))
    low = {name: network.ranges()[name][0] for name in (shifted, pooled, kept)}
    assert low[shifted] == low[pooled] == 0
    assert low[kept] < -0.4  # somebody sees it whole


def test_gradients_reach_kernels_biases_gates_and_bounds(fitted: EGEUNet) -> None:
    network = integer_network(fitted, StaticForm())
    logits, maps = network(IMAGES[:1])
    (logits.square().mean() + sum(value.square().mean() for value in maps.values())).backward()
    without = [name for name, p in network.constants.items() if not p.grad.abs().sum() > 0]
    assert without == []
    assert (network.growth.grad.abs().sum(1) > 0).float().mean() > 0.95


def test_values_tied_by_an_operator_share_a_group() -> None:
    b = GraphBuilder((1, 4, 4, 2))
    constant = b.constant(np.ones((1, 2, 2, 2), np.float32))
    enlarged = b.resize(constant, 4, 4)
    moved = b.slice(b.concat([b.input, enlarged]), 1, 2)
    logits = b.elementwise("gelu", moved)
    graph = b.finish(b.elementwise("sigmoid", logits))
    groups = scale_groups(graph)
    tied = {groups[name] for name in (constant, enlarged, moved)}
    assert len(tied) == 1
    assert groups[logits] not in tied
    assert graph.output not in groups


def test_a_constant_that_shares_a_scale_is_clipped_to_it() -> None:
    b = GraphBuilder((1, 4, 4, 1))
    constant = b.constant(np.full((1, 2, 2, 1), 5.0, np.float32))
    logits = b.add(b.input, b.resize(constant, 4, 4))
    graph = b.finish(b.elementwise("sigmoid", logits))
    network = TrainedGraph(StaticGraph(graph, {}, StaticForm()))
    network.set_bounds(dict.fromkeys(network.groups, (0.0, 2.0)))
    assert network.ranges()[constant][1] == pytest.approx(5.0)  # it is seen, too
    with torch.no_grad():
        network.growth.fill_(-1.0)
    data = network.trained().values[constant].data
    assert data is not None
    assert data.max() == pytest.approx(5 / np.e, rel=1e-4)
