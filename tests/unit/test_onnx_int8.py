"""Integer graphs as ONNX: the same numbers as their simulation, by integer kernels."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import static_models
from egeunet.export.graph import Graph, Quantization
from egeunet.export.onnx import emit_onnx
from egeunet.export.onnx.emit import QUANTIZATION_KEY
from egeunet.export.runners import open_runner
from egeunet.model import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.finetune_plan import PLANS
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.scale_ties import float_outputs
from egeunet.quantize.simulation import simulate
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import build_static_graph, static_names
from onnx_int8 import (
    CONTRACT,
    in_convolutions,
    pixels,
    quantized,
    recorded,
    run,
    session,
    static,
    stored,
)

pytestmark = pytest.mark.xdist_group("onnx-int8")


def test_the_file_computes_what_the_simulation_computes(tmp_path: Path) -> None:
    graph, images = quantized(), pixels(3)
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


def test_litert_and_onnx_runtime_agree_on_one_recipe(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from egeunet.export.tflite.emit import emit_tflite
    from egeunet.quantize.packed import pack

    graph, calibration = static()
    for_tflite = quantize_int8(
        graph, calibration, CONTRACT, "uint8", float_outputs(graph), kernel_scales="tensor"
    )
    files = {
        "m.tflite": emit_tflite(pack(for_tflite), CONTRACT),
        "m.onnx": emit_onnx(quantized(), CONTRACT, "int8"),
    }
    images, results = pixels(3), []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        results.append(open_runner(tmp_path / name)(images))
    assert np.abs(results[0] - results[1]).mean() <= 3 / 256
    assert ((results[0] >= 0.5) == (results[1] >= 0.5)).mean() >= 0.99


def test_onnx_runtime_has_an_integer_kernel_for_all_but_resizes(tmp_path: Path) -> None:
    graph = quantized()
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


def test_size_and_speed_give_the_same_bits() -> None:
    graph, image = quantized(), stored(pixels(1))
    files = [emit_onnx(graph, CONTRACT, "int8", optimize=o) for o in ("speed", "size")]
    assert len(files[1]) < len(files[0])
    assert np.array_equal(run(files[0], image), run(files[1], image))
    assert emit_onnx(graph, CONTRACT, "int8") == files[0]  # reproducible


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_types_of_the_ends(io: str, tmp_path: Path) -> None:
    images, results = pixels(1), []
    for name in ("uint8", io):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(emit_onnx(quantized(name), CONTRACT, "int8"))
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
def test_every_choice_of_kernels(choices: dict[str, Any]) -> None:
    graph, images = quantized(**choices), pixels(1)
    got = run(emit_onnx(graph, CONTRACT, "int8"), stored(images)).transpose(0, 2, 3, 1) / 256
    want = simulate(plain(graph), torch.from_numpy(CONTRACT.normalize(images))).numpy()
    assert want.std() > 0.01
    # With scales that are multiples of each other more results are halves, which are rounded
    # this way or that: one value in 100,000 of the first map, enlarged by random weights.
    assert np.abs(got - want).mean() <= 5 / 256
    assert ((got >= 0.5) == (want >= 0.5)).mean() >= 0.97


def plain(graph: Graph) -> Graph:
    """For the simulation: without fully connected operators, and with biases in units of the
    products, as runtimes take them."""
    graph = in_convolutions(graph)
    values = dict(graph.values)
    for node in graph.nodes:
        if node.op in ("conv2d", "depthwise_conv2d"):
            x, kernel, bias = (values[name] for name in node.inputs)
            assert x.quantization is not None and kernel.quantization is not None
            scale = x.quantization.scale * kernel.quantization.scale
            units = Quantization(scale, np.zeros(len(scale), np.int64))
            values[bias.name] = replace(bias, quantization=units)
    return Graph(graph.input, graph.output, graph.nodes, values)


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


def test_what_the_file_holds() -> None:
    model = onnx.load_from_string(emit_onnx(quantized(), CONTRACT, "int8"))
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


def test_a_resize_is_kept_from_older_versions_integer_kernel() -> None:
    """They take it where the scales on both sides are equal."""
    model = onnx.load_from_string(emit_onnx(quantized(), CONTRACT, "int8"))
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


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "{}", '{"input": {"scale": "x", "zero_point": 0}}',
     '{"input": {"scale": 0.1, "zero_point": 300}}', '{"input": {"scale": -1, "zero_point": 0}}',
     '{"input": {"scale": 1e400, "zero_point": 0}}', '{"input": {"scale": 1}}', "[" * 9999],
)  # fmt: skip
def test_integers_without_a_usable_scale_are_one_line(text: str | None, tmp_path: Path) -> None:
    model = onnx.load_from_string(emit_onnx(quantized(), CONTRACT, "int8"))
    entry = next(each for each in model.metadata_props if each.key == QUANTIZATION_KEY)
    if text is None:
        model.metadata_props.remove(entry)
    else:
        entry.value = text
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"m.onnx: input 'image' is uint8 and the metadata entry"):
        open_runner(path)
