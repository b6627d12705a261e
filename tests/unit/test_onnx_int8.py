"""Integer graphs as ONNX: the same numbers as their simulation, by integer kernels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import static_models
from egeunet.export.graph import Graph, GraphBuilder, Quantization
from egeunet.export.group_kernel import group_kernel
from egeunet.export.onnx import emit_onnx
from egeunet.export.onnx.emit import QUANTIZATION_KEY
from egeunet.export.onnx.filled_lanes import filled_lanes
from egeunet.export.onnx.form import build_onnx_graph
from egeunet.export.onnx.pixel_groups import grouped_pixels
from egeunet.export.onnx.quantized import is_integer
from egeunet.export.runners import open_runner
from egeunet.model import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.finetune_plan import PLANS
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.scale_ties import float_outputs
from egeunet.quantize.simulation import simulate
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import build_static_graph, static_names

pytestmark = pytest.mark.xdist_group("onnx-int8")
#: Where all arrangements are found; of a smaller one the maps are too small.
CONTRACT = ModelContract(128, 128)
Ranges = tuple[Graph, Calibration]


def pixels(count: int, contract: ModelContract = CONTRACT, seed: int = 3) -> Any:
    """uint8 (count, H, W, 3), smooth."""
    images = static_models.images(count, seed, contract.height)
    return (images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)


def recorded(graph: Graph, contract: ModelContract) -> Calibration:
    images = pixels(4, contract, seed=7)
    return calibrate(graph, contract, images, source="tests", weights_sha256="")


@pytest.fixture(scope="session")
def static() -> Ranges:
    """A graph of random static norms, and its ranges."""
    torch.set_num_threads(1)
    model = static_models.static_network()
    model.final.weight.mul_(1e-3)  # else most probabilities are 0 or 1
    graph = build_static_graph(model, CONTRACT).graph
    return graph, recorded(graph, CONTRACT)


def quantized(static: Ranges, io: str = "uint8", **choices: Any) -> Graph:
    graph, calibration = static
    kept = onnx_float_outputs(graph)
    choices = {"kernel_scales": "tensor", **choices}
    return quantize_int8(graph, calibration, CONTRACT, io, kept, **choices)


def session(data: bytes, optimized: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, image_nchw: Any) -> Any:
    return session(data).run(["probability"], {"image": image_nchw})[0]


def stored(images: Any) -> Any:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


# The whole network


def test_the_file_computes_what_the_simulation_computes(static: Ranges, tmp_path: Path) -> None:
    graph, images = quantized(static), pixels(3)
    path = tmp_path / "m.onnx"
    path.write_bytes(emit_onnx(graph, CONTRACT, "int8"))
    runner = open_runner(path)
    assert runner.contract == CONTRACT
    assert runner.precision_note == "input uint8 NCHW, output uint8 NCHW"
    got = runner(images)
    want = simulate(graph, torch.from_numpy(CONTRACT.normalize(images))).numpy()
    assert want.std() > 0.01  # else any file would do
    # A half may be rounded the other way, which later operators enlarge.
    assert np.abs(got - want).mean() <= 0.5 / 256
    assert ((got >= 0.5) == (want >= 0.5)).mean() >= 0.998


def test_litert_and_onnx_runtime_agree_on_one_recipe(static: Ranges, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from egeunet.export.tflite.emit import emit_tflite
    from egeunet.quantize.packed import pack

    graph, calibration = static
    for_tflite = quantize_int8(
        graph, calibration, CONTRACT, "uint8", float_outputs(graph), kernel_scales="tensor"
    )
    files = {
        "m.tflite": emit_tflite(pack(for_tflite), CONTRACT),
        "m.onnx": emit_onnx(quantized(static), CONTRACT, "int8"),
    }
    images, results = pixels(3), []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        results.append(open_runner(tmp_path / name)(images))
    assert np.abs(results[0] - results[1]).mean() <= 3 / 256
    assert ((results[0] >= 0.5) == (results[1] >= 0.5)).mean() >= 0.99


def test_onnx_runtime_has_an_integer_kernel_for_all_but_resizes(
    static: Ranges, tmp_path: Path
) -> None:
    graph = quantized(static)
    session(emit_onnx(graph, CONTRACT, "int8"), tmp_path / "optimized.onnx")
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    found, asked = Counter(node.op_type for node in nodes), graph.operators()
    resizes = asked["resize"]
    integer = {
        "QLinearConv": asked["conv2d"] + asked["depthwise_conv2d"],
        "QLinearAdd": asked["add"] + asked["sub"],
        "QLinearMul": asked["mul"],
        "QLinearSigmoid": asked["sigmoid"],
        "QLinearConcat": asked["concat"],
    }
    assert {name: found[name] for name in integer} == integer
    assert found["DequantizeLinear"] == found["QuantizeLinear"] == found["Resize"] == resizes
    moving = {"Resize", "DequantizeLinear", "QuantizeLinear", "Reshape", "Split", "Transpose"}
    assert found.keys() - moving - integer.keys() == {"NhwcMaxPool"}


def test_size_and_speed_give_the_same_bits(static: Ranges) -> None:
    graph, image = quantized(static), stored(pixels(1))
    files = [emit_onnx(graph, CONTRACT, "int8", optimize=o) for o in ("speed", "size")]
    assert len(files[1]) < len(files[0])
    assert np.array_equal(run(files[0], image), run(files[1], image))
    assert emit_onnx(graph, CONTRACT, "int8") == files[0]  # reproducible


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_types_of_the_ends(static: Ranges, io: str, tmp_path: Path) -> None:
    images, results = pixels(1), []
    for name in ("uint8", io):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(emit_onnx(quantized(static, name), CONTRACT, "int8"))
        runner = open_runner(path)
        assert runner.precision_note == f"input {name} NCHW, output {name} NCHW"
        results.append(runner(images))
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize(
    "choices",
    [{"kernel_scales": "channel"}, {"kernel_scales": "all-tensor"},
     {"pointwise_bits": 4, "scale_steps": 4}],
    ids=str,
)  # fmt: skip
def test_every_choice_of_kernels(static: Ranges, choices: dict[str, Any]) -> None:
    graph, images = quantized(static, **choices), pixels(1)
    got = run(emit_onnx(graph, CONTRACT, "int8"), stored(images)).transpose(0, 2, 3, 1) / 256
    want = simulate(plain(graph), torch.from_numpy(CONTRACT.normalize(images))).numpy()
    assert want.std() > 0.01
    # With scales that are multiples of each other more results are halves, which are rounded
    # this way or that: one value in 100,000 of the first map, enlarged by random weights.
    assert np.abs(got - want).mean() <= 5 / 256
    assert ((got >= 0.5) == (want >= 0.5)).mean() >= 0.97


def plain(graph: Graph) -> Graph:
    """For the simulation: fully connected operators as the 1x1 convolutions that they are, and
    biases in units of the products, as runtimes take them."""
    nodes, values = [], dict(graph.values)
    for node in graph.nodes:
        if node.op == "fully_connected":
            kernel = values[node.inputs[1]]
            assert kernel.data is not None
            data = kernel.data[:, None, None]
            values[kernel.name] = replace(kernel, data=data, shape=data.shape, dtype="int8")
            node = replace(node, op="conv2d", attributes={"dilation": 1})
        if node.op in ("conv2d", "depthwise_conv2d"):
            x, kernel, bias = (values[name] for name in node.inputs)
            assert x.quantization is not None and kernel.quantization is not None
            scale = x.quantization.scale * kernel.quantization.scale
            units = Quantization(scale, np.zeros(len(scale), np.int64))
            values[bias.name] = replace(bias, quantization=units)
        nodes.append(node)
    return Graph(graph.input, graph.output, nodes, values)


def test_relu_in_the_place_of_gelu() -> None:
    contract = ModelContract(64, 64)
    model = static_models.static_network(seed=1)
    graph = build_static_graph(model, contract, StaticForm(gelu="relu")).graph
    integers = quantize_int8(graph, recorded(graph, contract), contract, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    data = emit_onnx(integers, contract, "int8")
    written = Counter(node.op_type for node in onnx.load_from_string(data).graph.node)
    assert written["Clip"] == graph.operators()["relu"]
    images = pixels(2, contract)
    want = simulate(integers, torch.from_numpy(contract.normalize(images))).numpy()
    for image, expected in zip(images, want, strict=True):
        got = run(data, stored(image[None])).transpose(0, 2, 3, 1)[0] / 256
        assert np.abs(got - expected).mean() <= 1 / 256


@pytest.mark.parametrize(
    ("dynamic", "brief"),
    [
        (("ebn1", "encoder4.0.norm1", "dbn4"), False),
        (("ebn1", "encoder4.0.norm1", "dbn4"), True),
        (("ebn4", "encoder4", "GAB4.tail_conv.0", "dbn1", "dbn4"), True),
    ],
    ids=str,
)
def test_dynamic_norms_beside_static_ones(dynamic: tuple[str, ...], brief: bool) -> None:
    contract = ModelContract(64, 64)
    form = StaticForm(gelu="table", dynamic_norms=dynamic, brief_norms=brief)
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    graph = build_static_graph(model, contract, form).graph
    kept = onnx_float_outputs(graph, trained=True)
    integers = quantize_int8(graph, recorded(graph, contract), contract, "uint8", kept)
    images = pixels(2, contract)
    want = simulate(integers, torch.from_numpy(contract.normalize(images))).numpy()
    data = emit_onnx(integers, contract, "int8")
    for image, expected in zip(images, want, strict=True):
        got = run(data, stored(image[None])).transpose(0, 2, 3, 1)[0] / 256
        assert ((got >= 0.5) == (expected >= 0.5)).mean() >= 0.99


def test_small_maps_in_float32_with_integer_kernels() -> None:
    contract, form = ModelContract(64, 64), PLANS["isic2017-int8"].form
    model = static_models.static_network(static=static_names(static_models.random_network(), form))
    graph = build_static_graph(model, contract, form).graph
    integers = quantize_int8(
        graph, recorded(graph, contract), contract, "uint8",
        onnx_float_outputs(graph, trained=True), float_pixels=form.float_pixels,
    )  # fmt: skip
    images = pixels(2, contract)
    want = simulate(in_convolutions(integers), torch.from_numpy(contract.normalize(images))).numpy()
    data = emit_onnx(integers, contract, "int8")
    floats = [t for t in onnx.load_from_string(data).graph.initializer if t.data_type == 1]
    assert max(int(np.prod(t.dims)) for t in floats) <= 100  # no kernel is among them
    for image, expected in zip(images, want, strict=True):
        got = run(data, stored(image[None])).transpose(0, 2, 3, 1)[0] / 256
        assert ((got >= 0.5) == (expected >= 0.5)).mean() >= 0.99


def in_convolutions(graph: Graph) -> Graph:
    """Fully connected operators as the 1x1 convolutions that they are."""
    values, nodes = dict(graph.values), []
    for node in graph.nodes:
        if node.op == "fully_connected":
            kernel = values[node.inputs[1]]
            assert kernel.data is not None
            data = kernel.data[:, None, None]
            values[kernel.name] = replace(kernel, data=data, shape=data.shape)
            node = replace(node, op="conv2d", attributes={"dilation": 1})
        nodes.append(node)
    return Graph(graph.input, graph.output, nodes, values)


def test_what_the_file_holds(static: Ranges) -> None:
    model = onnx.load_from_string(emit_onnx(quantized(static), CONTRACT, "int8"))
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert ModelContract.from_dict(metadata["egeunet.contract"]) == CONTRACT
    ends = metadata["egeunet.quantization"]
    assert ends["input"] == {"scale": float(np.float32(1 / 255)), "zero_point": 0}
    assert ends["output"] == {"scale": 1 / 256, "zero_point": 0}
    types = Counter(tensor.data_type for tensor in model.graph.initializer if tensor.dims)
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert types[onnx.TensorProto.INT8] > 60
    assert max(np.prod(t.dims) for t in floats) <= 128  # scales only
    assert not any(node.name for node in model.graph.node)


def test_a_resize_is_kept_from_older_versions_integer_kernel(static: Ranges) -> None:
    """They take it where the scales on both sides are equal."""
    model = onnx.load_from_string(emit_onnx(quantized(static), CONTRACT, "int8"))
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    assert resizes
    for node in resizes:
        before, after = makers[node.input[0]], readers[node.output[0]]
        assert (before.op_type, after.op_type) == ("DequantizeLinear", "QuantizeLinear")
        scale = scales[after.input[1]]
        assert scales[before.input[1]] == np.nextafter(scale, np.float32(np.inf))
        assert scales[before.input[2]] == scales[after.input[2]]


# Arrangements


@settings(deadline=None, max_examples=20)
@given(
    pixels=st.sampled_from([1, 2, 4, 8]), outputs=st.integers(1, 3), inputs=st.integers(1, 3),
    dilation=st.integers(1, 8), seed=st.integers(0, 99),
)  # fmt: skip
def test_groups_of_pixels_are_the_same_convolution(
    pixels: int, outputs: int, inputs: int, dilation: int, seed: int
) -> None:
    dilation = min(dilation, pixels)
    rng = np.random.default_rng(seed)
    kernel = rng.integers(-127, 128, (outputs, 3, 3, inputs)).astype(np.int8)
    x = torch.from_numpy(rng.integers(-9, 9, (1, 10, 16, inputs))).double()

    def convolved(x: torch.Tensor, kernel: Any, columns: int) -> torch.Tensor:
        weight = torch.from_numpy(kernel.transpose(0, 3, 1, 2).copy()).double()
        both = (dilation, columns)
        y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, padding=both, dilation=both)
        return y.permute(0, 2, 3, 1)

    wide = group_kernel(kernel, pixels, dilation)
    assert wide.dtype == np.int8 and wide.shape == (pixels * outputs, 3, 3, pixels * inputs)
    grouped = x.reshape(1, 10, 16 // pixels, pixels * inputs)
    got = convolved(grouped, wide, 1).reshape(1, 10, 16, outputs)
    assert torch.equal(got, convolved(x, kernel, dilation))


def test_which_convolutions_work_on_groups(static: Ranges) -> None:
    graph = grouped_pixels(quantized(static))
    changed = [node for node in graph.nodes if node.op == "pixel_group_conv2d"]
    assert [node.scope for node in changed] == ["encoder1"] + 4 * ["GAB1"]
    shapes = {node.scope: graph.values[node.inputs[1]].shape for node in changed}
    assert shapes == {"encoder1": (32, 3, 3, 12), "GAB1": (8, 3, 3, 64)}
    reshapes = [node for node in graph.nodes if node.op == "reshape"]
    assert len(reshapes) == 2 + len(changed)  # the bridge's four share their input


def test_lanes_are_filled_in_the_bridges_of_large_maps(static: Ranges) -> None:
    before = quantized(static)
    after = filled_lanes(before)

    def channels(graph: Graph) -> list[int]:
        return [
            graph.values[node.output].shape[3] for node in graph.nodes
            if node.op == "depthwise_conv2d" and node.scope == "GAB2"
        ]  # fmt: skip

    assert channels(before) == [9] * 4 and channels(after) == [16] * 4
    assert after.operators() == before.operators()
    tails = [after.values[n.inputs[1]].shape for n in after.nodes if n.op == "conv2d"]
    assert (16, 1, 1, 64) in tails
    # Only what is added differs from the graph before, which is as it was.
    assert {n: v.shape for n, v in before.values.items()}.items() <= {
        n: v.shape for n, v in quantized(static).values.items()
    }.items()


def test_no_mask_no_filling() -> None:
    model = static_models.static_network(deep_supervision=False)
    graph = build_static_graph(model, CONTRACT).graph
    integers = quantize_int8(graph, recorded(graph, CONTRACT), CONTRACT, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    assert filled_lanes(integers).nodes == integers.nodes
    assert is_integer(integers) and not is_integer(graph)
    assert run(emit_onnx(integers, CONTRACT, "int8"), stored(pixels(1))).dtype == np.uint8


# Single operators

Build = Callable[[GraphBuilder], str]


def _random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _three(b: GraphBuilder) -> str:
    return b.sub(b.input, b.constant(np.array([0.3, 0.5, 0.7], np.float32)))


CASES: dict[str, Build] = {
    "conv 3x3": lambda b: b.conv2d(b.input, _random(8, 3, 3, 3), _random(8)),
    "conv 1x1": lambda b: b.conv2d(b.input, _random(5, 1, 1, 3), _random(5)),
    "no bias": lambda b: b.conv2d(b.input, _random(4, 1, 1, 3), np.zeros(4, np.float32)),
    "depthwise": lambda b: b.depthwise_conv2d(b.input, _random(1, 3, 3, 3), _random(3), 2),
    "sub": _three,
    "add": lambda b: b.add(b.input, _three(b)),
    "mul": lambda b: b.mul(_three(b), b.constant(_random(1, 32, 32, 3))),
    "slices": lambda b: b.concat(b.split(_three(b), 3)[::-1]),
    "slice": lambda b: b.slice(_three(b), 1, 2),
    "max-pool": lambda b: b.max_pool(_three(b)),
    "resize": lambda b: b.resize(_three(b), 45, 71),
    "resize of one channel": lambda b: b.resize(b.slice(_three(b), 0, 1), 64, 64),
    "resize of a constant": lambda b: b.mul(
        b.input, b.resize(b.constant(_random(1, 8, 8, 3)), 32, 32)
    ),
    "gelu": lambda b: b.elementwise("gelu", _three(b)),
    "relu": lambda b: b.elementwise("relu", b.conv2d(b.input, _random(4, 1, 1, 3), _random(4))),
    "two activations": lambda b: b.sub(b.input, _three(b)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_operator_agrees_with_the_simulation(case: str, optimize: str) -> None:
    contract = ModelContract(32, 32)
    b = GraphBuilder((1, 32, 32, 3))
    head = CASES[case](b)
    graph = b.finish(b.elementwise("sigmoid", head))
    integers = quantize_int8(graph, recorded(graph, contract), contract, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    image = pixels(1, contract)
    got = run(emit_onnx(integers, contract, "int8", optimize=optimize), stored(image))
    want = simulate(integers, torch.from_numpy(contract.normalize(image))).numpy() * 256
    difference = np.abs(got.transpose(0, 2, 3, 1) - want)
    assert difference.max() <= 2 and (difference > 0.5).mean() <= 0.02, difference.max()


def test_no_lowering() -> None:
    b = GraphBuilder((1, 32, 32, 3))
    graph = b.finish(b.typed(b.mean(b.input, (1, 2)), "int8"))
    with pytest.raises(NotImplementedError, match="'mean' with type int8"):
        emit_onnx(graph, CONTRACT, "int8")


# What stays in float32, and the ends


def test_what_a_dynamic_group_norm_reads_stays_float() -> None:
    contract = ModelContract(64, 64)
    graph = build_onnx_graph(static_models.random_network(), contract)
    kept = set(onnx_float_outputs(graph))
    ops = {node.output: node for node in graph.nodes}
    norms = [node for node in graph.nodes if node.op == "group_norm"]
    assert norms
    for node in norms:
        assert node.output in kept and node.inputs[0] in kept
        assert ops[node.inputs[0]].op in ("conv2d", "max_pool")
    trained = set(onnx_float_outputs(graph, trained=True))
    assert trained < kept and {ops[name].op for name in kept - trained} == {"conv2d", "max_pool"}
    integers = Counter(node.op for node in graph.nodes if node.output not in kept)
    assert integers.keys() <= {"conv2d", "depthwise_conv2d", "add", "mul", "concat", "slice",
                               "max_pool", "sigmoid"}  # fmt: skip
    assert integers["conv2d"] > 20 and integers["sigmoid"] == 1


def test_exact_norms_agree_with_the_simulation() -> None:
    contract = ModelContract(64, 64)
    graph = build_onnx_graph(static_models.random_network(), contract)
    integers = quantize_int8(graph, recorded(graph, contract), contract, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    image = pixels(1, contract)
    got = run(emit_onnx(integers, contract, "int8"), stored(image)).transpose(0, 2, 3, 1) / 256
    want = simulate(integers, torch.from_numpy(contract.normalize(image))).numpy()
    assert want.std() > 0.01
    assert np.abs(got - want).mean() <= 4 / 256


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "{}", '{"input": {"scale": "x", "zero_point": 0}}',
     '{"input": {"scale": 0.1, "zero_point": 300}}', '{"input": {"scale": -1, "zero_point": 0}}',
     '{"input": {"scale": 1e400, "zero_point": 0}}', '{"input": {"scale": 1}}', "[" * 9999],
)  # fmt: skip
def test_integers_without_a_usable_scale_are_one_line(
    text: str | None, static: Ranges, tmp_path: Path
) -> None:
    model = onnx.load_from_string(emit_onnx(quantized(static), CONTRACT, "int8"))
    entry = next(each for each in model.metadata_props if each.key == QUANTIZATION_KEY)
    if text is None:
        model.metadata_props.remove(entry)
    else:
        entry.value = text
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"m.onnx: input 'image' is uint8 and the metadata entry"):
        open_runner(path)
