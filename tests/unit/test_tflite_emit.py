"""Whole .tflite files: what they hold, what they give, and that they are made the same twice."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from egeunet.export.graph import Graph, GraphBuilder, Quantization
from egeunet.export.lean import build_lean_graph
from egeunet.export.precisions import halve_constants
from egeunet.export.runners import open_runner
from egeunet.export.runners.tflite_metadata import contract_text
from egeunet.export.splits import channel_splits
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import EGEUNet, ModelContract

pytestmark = pytest.mark.xdist_group("tflite")
CONTRACT = ModelContract(64, 96, threshold=0.4)
#: Of the probability; the seed gives a network that does not magnify rounding.
TOLERANCE = 1e-4
HALF_TOLERANCE = 0.05


@pytest.fixture(scope="module")
def network() -> tuple[EGEUNet, Graph]:
    torch.manual_seed(5)
    model = EGEUNet().eval()
    return model, build_lean_graph(model, CONTRACT)


@pytest.fixture(scope="module")
def float32_file(network: tuple[EGEUNet, Graph]) -> bytes:
    return emit_tflite(network[1], CONTRACT)


def tables(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def run(data: bytes, image_nhwc: Any, resolver: Any = OpResolverType.AUTO) -> Any:
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image_nhwc)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize(
    "resolver",
    [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES],
    ids=["xnnpack", "plain"],
)
def test_the_network(network: tuple[EGEUNet, Graph], float32_file: bytes, resolver: Any) -> None:
    image = np.random.default_rng(0).random((1, 64, 96, 3), np.float32)
    with torch.no_grad():
        nchw = torch.from_numpy(image.transpose(0, 3, 1, 2)).double()
        want = copy.deepcopy(network[0]).double()(nchw).probability.permute(0, 2, 3, 1).numpy()
    for what, data, tolerance in (
        ("float32", float32_file, TOLERANCE),
        ("float16", emit_tflite(halve_constants(network[1]), CONTRACT), HALF_TOLERANCE),
    ):
        difference = np.abs(run(data, image, resolver) - want)
        assert difference.max() <= tolerance, (
            f"{what}: probability max {difference.max()}, mean {difference.mean()}"
        )


def test_same_graph_same_bytes(network: tuple[EGEUNet, Graph], float32_file: bytes) -> None:
    assert emit_tflite(network[1], CONTRACT) == float32_file
    torch.manual_seed(5)
    again = build_lean_graph(EGEUNet().eval(), CONTRACT)
    assert emit_tflite(again, CONTRACT) == float32_file


def test_names_are_those_of_the_ends_only(float32_file: bytes) -> None:
    model = tables(float32_file)
    (graph,) = model.subgraphs
    named = {tensor.name for tensor in graph.tensors} - {None, b""}
    assert named == {b"image", b"probability"}
    assert not graph.name and not model.description
    (signature,) = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    ends = [(e.name, e.tensorIndex) for e in (*signature.inputs, *signature.outputs)]
    assert ends == [(b"image", graph.inputs[0]), (b"probability", graph.outputs[0])]
    interpreter = Interpreter(model_content=float32_file)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probability"]}
    }


def test_every_data_buffer_is_aligned_to_16(float32_file: bytes) -> None:
    model = schema.Model.GetRootAs(float32_file, 0)
    seen = 0
    for index in range(model.BuffersLength()):
        table = model.Buffers(index)._tab
        field = table.Offset(4)  # Buffer.data
        if field:
            assert table.Vector(field) % 16 == 0, f"buffer {index}"
            seen += 1
    assert seen > 100


def test_nothing_is_stored_twice(network: tuple[EGEUNet, Graph], float32_file: bytes) -> None:
    model = tables(float32_file)
    (graph,) = model.subgraphs
    data = [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None]
    assert len(set(data)) == len(data)
    assert model.buffers[0].data is None  # the one of all activations
    constants = [
        (tuple(t.shape), t.type, t.buffer)
        for t in graph.tensors
        if model.buffers[t.buffer].data is not None
    ]
    assert len(set(constants)) == len(constants)
    assert len(model.operatorCodes) == len(
        {(c.builtinCode, c.version) for c in model.operatorCodes}
    )
    # All that is not data: tables, shapes, indices. Converters need about four times as much.
    overhead = len(float32_file) - sum(map(len, data))
    per_node = overhead / len(network[1].nodes)
    assert per_node < 75, f"{overhead} bytes beside the data, {per_node:.0f} a node"


def test_operators_are_the_graphs(network: tuple[EGEUNet, Graph], float32_file: bytes) -> None:
    model = tables(float32_file)
    written = Counter(
        model.operatorCodes[op.opcodeIndex].builtinCode for op in model.subgraphs[0].operators
    )
    builtin = schema.BuiltinOperator
    names = {
        "conv2d": builtin.CONV_2D, "depthwise_conv2d": builtin.DEPTHWISE_CONV_2D,
        "add": builtin.ADD, "sub": builtin.SUB, "mul": builtin.MUL, "gelu": builtin.GELU,
        "concat": builtin.CONCATENATION, "mean": builtin.MEAN,
        "rsqrt": builtin.RSQRT, "sigmoid": builtin.LOGISTIC, "max_pool": builtin.MAX_POOL_2D,
        "resize": builtin.RESIZE_BILINEAR, "maximum": builtin.MAXIMUM,
    }  # fmt: skip
    expected = network[1].operators()
    splits = channel_splits(network[1])
    # Every slice is one of four of its map: of six GHPAs, and in five GABs.
    assert expected.pop("slice") == sum(map(len, splits.values())) == 4 * len(splits)
    assert written.pop(builtin.SPLIT) == len(splits) >= 6 + 5
    assert written == {names[op]: count for op, count in expected.items()}


def test_codes_above_127_do_not_overflow_the_old_field(float32_file: bytes) -> None:
    codes = tables(float32_file).operatorCodes
    assert {code.deprecatedBuiltinCode for code in codes if code.builtinCode > 127} == {127}
    assert all(
        code.deprecatedBuiltinCode == code.builtinCode for code in codes if code.builtinCode <= 127
    )


def versions(graph: Graph) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for code in tables(emit_tflite(graph, CONTRACT)).operatorCodes:
        found.setdefault(code.builtinCode, set()).add(code.version)
    return found


def test_operator_versions(network: tuple[EGEUNet, Graph]) -> None:
    builtin = schema.BuiltinOperator
    plain = versions(network[1])
    assert plain.pop(builtin.DEPTHWISE_CONV_2D) == {1, 2}  # 2 brought dilation
    assert set().union(*plain.values()) == {1}
    assert versions(halve_constants(network[1]))[builtin.DEQUANTIZE] == {3}  # float16
    b = GraphBuilder((1, 2, 2, 3))
    b.typed(b.input, "int8", Quantization.per_tensor(1 / 255, -128))
    real = b.add_node("dequantize", (b.input,), b.shape(b.input))
    assert versions(b.finish(real)) == {builtin.DEQUANTIZE: {2}}


def test_equal_constants_of_other_type_or_scale_stay_apart() -> None:
    b = GraphBuilder((1, 2, 2, 3))
    b.typed(b.input, "int8", Quantization.per_tensor(1.0, 0))
    x = b.input
    for scale in (1.0, 1.0, 2.0):
        ones = b.typed(b.constant(np.ones(3, np.int8)), "int8", Quantization.per_tensor(scale, 0))
        x = b.typed(b.add(x, ones), "int8", Quantization.per_tensor(1.0, 0))
    data = emit_tflite(b.finish(x), CONTRACT)
    (graph,) = tables(data).subgraphs
    assert len([t for t in graph.tensors if list(t.shape) == [3]]) == 2
    assert len({t.buffer for t in graph.tensors if list(t.shape) == [3]}) == 1  # same bytes
    result = run(
        data, np.zeros((1, 2, 2, 3), np.int8), OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    assert set(result.ravel().tolist()) == {4}


def test_contract_through_the_runner(float32_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(float32_file)
    text = contract_text(path, float32_file)
    assert text is not None and " " not in text.replace("lesion probability", "")
    runner = open_runner(path)
    assert runner.contract == CONTRACT
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 96, 3), np.uint8)
    direct = [run(float32_file, CONTRACT.normalize(image[None])) for image in pixels]
    assert np.array_equal(runner(pixels), np.concatenate(direct))


def test_an_operator_without_lowering_is_named() -> None:
    b = GraphBuilder((1, 2, 2, 8))
    norm = b.layer_norm(b.input, np.ones(8, np.float32), np.zeros(8, np.float32), 1e-6)
    with pytest.raises(NotImplementedError, match="'layer_norm'"):
        emit_tflite(b.finish(norm), CONTRACT)


def test_small_constants_stay_float32() -> None:
    b = GraphBuilder((1, 2, 2, 64))
    large, small = (
        b.constant(np.ones(64, np.float32)),
        b.constant(np.ones((1, 1, 1, 1), np.float32)),
    )
    graph = b.finish(b.add(b.mul(b.add(b.input, large), small), large))
    halved = halve_constants(graph)
    assert halved.operators() == {**graph.operators(), "dequantize": 1}  # shared by both readers
    assert sorted(value.dtype for value in halved.constants()) == ["float16", "float32"]
