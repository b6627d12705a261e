"""ONNX files: every lowering and the whole network against PyTorch, and what a file holds."""

from __future__ import annotations

import copy
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import single_operators as single
from egeunet.export.deploy import build_deploy_graph
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.onnx import emit, emit_onnx, simplify
from egeunet.export.runners import open_runner
from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract
from egeunet.model.errors import MissingExtraError

pytestmark = pytest.mark.xdist_group("onnx")
#: Of one operator on values of about 1, and of the whole network's probability.
OPERATOR_TOLERANCE, NETWORK_TOLERANCE = 2e-5, 1e-4
SMALL = ModelContract(64, 96, threshold=0.4)


def run(data: bytes, image_nchw: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(["probability"], {"image": image_nchw})[0]


def assert_close(got: Any, want: Any, tolerance: float, name: str) -> None:
    assert got.shape == want.shape and got.dtype == np.float32, name
    difference = np.abs(got - want)
    assert difference.max() <= tolerance, f"{name}: {difference.max()}, mean {difference.mean()}"


def probability(model: EGEUNet, image_nchw: Any) -> Any:
    """The reference in float64: of random networks some have logits of +-40, where its
    float32 is itself off by up to 1e-4. The seeds here give ordinary ones."""
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(torch.from_numpy(image_nchw).double())
    return exact.probability.numpy()


@pytest.fixture(scope="session")
def random_graph() -> tuple[EGEUNet, Graph]:
    torch.manual_seed(5)
    model = EGEUNet().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # a bias of zeros is not written
            torch.nn.init.normal_(parameter, 0, 0.1)
    return model, build_deploy_graph(model, SMALL)


@pytest.fixture(scope="session")
def random_file(random_graph: tuple[EGEUNet, Graph]) -> bytes:
    return emit_onnx(random_graph[1], SMALL)


@pytest.mark.parametrize("case", single.CASES)
def test_operator_agrees_with_pytorch(case: str) -> None:
    graph = single.graph_of(case)
    image, want = single.image_and_result(graph)
    assert_close(run(emit_onnx(graph, SMALL), image), want, OPERATOR_TOLERANCE, case)


@settings(deadline=None, max_examples=15)
@given(sides=st.tuples(*[st.integers(1, 13)] * 4), channels=st.integers(1, 7))
def test_any_resize(sides: tuple[int, int, int, int], channels: int) -> None:
    builder = GraphBuilder((1, sides[0], sides[1], channels))
    resized = builder.resize(builder.elementwise("sigmoid", builder.input), sides[2], sides[3])
    graph = builder.finish(resized)
    image, want = single.image_and_result(graph)
    assert_close(run(emit_onnx(graph, SMALL), image), want, OPERATOR_TOLERANCE, str(sides))


def test_random_network(random_graph: tuple[EGEUNet, Graph], random_file: bytes) -> None:
    image = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    want = probability(random_graph[0], image)
    assert_close(run(random_file, image), want, NETWORK_TOLERANCE, "random network")


@pytest.mark.parametrize("changes", [{"bridge": False}, {"deep_supervision": False},
                                     {"num_classes": 2}, {"channels": (12, 20, 28, 36, 44, 52)}],
                         ids=str)  # fmt: skip
def test_every_architecture(changes: dict[str, Any]) -> None:
    torch.manual_seed(5)
    model = EGEUNet(EGEUNetConfig(**changes)).eval()
    image = np.random.default_rng(1).random((1, 3, 64, 96), np.float32)
    data = emit_onnx(build_deploy_graph(model, SMALL), SMALL)
    assert_close(run(data, image), probability(model, image), NETWORK_TOLERANCE, str(changes))


@pytest.mark.parametrize("name", ["a", "b"])
def test_golden_network(shared: Path, name: str) -> None:
    golden = np.load(shared / "golden" / "egeunet_upstream.npz")
    state = {key[2:]: torch.from_numpy(golden[key]) for key in golden.files if key[:2] == "w:"}
    images = golden[f"x_{name}"]
    contract = ModelContract(*images.shape[2:], normalization="minmax255")
    model = EGEUNet.from_public_state_dict(state)
    data = emit_onnx(build_deploy_graph(model, contract), contract)
    for image, want in zip(images, golden[f"mask_{name}"], strict=True):
        assert_close(run(data, image[None]), want[None], NETWORK_TOLERANCE, f"mask_{name}")


def test_contract_and_pixels_through_the_runner(
    random_graph: tuple[EGEUNet, Graph], random_file: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(random_file)
    runner = open_runner(path)
    assert runner.contract == SMALL
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 96, 3), np.uint8)
    image = SMALL.normalize(pixels).transpose(0, 3, 1, 2).copy()
    want = probability(random_graph[0], image).transpose(0, 2, 3, 1)
    assert_close(runner(pixels), want, NETWORK_TOLERANCE, "runner")


def test_file_holds_what_it_needs_and_no_more(random_file: bytes) -> None:
    model = onnx.load_from_string(random_file)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for tensor in inferred.graph.value_info:
        assert all(side.HasField("dim_value") for side in tensor.type.tensor_type.shape.dim)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (
        9,
        [("", 20)],
    )
    (entry,) = model.metadata_props
    assert entry.key == "egeunet.contract"
    assert ModelContract.from_dict(json.loads(entry.value)) == SMALL
    for port, channels in ((model.graph.input[0], 3), (model.graph.output[0], 1)):
        shape = [side.dim_value for side in port.type.tensor_type.shape.dim]
        assert shape == [1, channels, 64, 96]
    assert [port.name for port in model.graph.input] == ["image"]
    assert [port.name for port in model.graph.output] == ["probability"]
    assert not any(node.name or node.doc_string for node in model.graph.node)
    assert not model.doc_string and not model.graph.doc_string and not model.graph.value_info
    names = {name for node in model.graph.node for name in node.output}
    assert max(len(name) for name in names - {"probability"}) <= 2


def test_operators_are_the_ones_the_graph_asks_for(
    random_graph: tuple[EGEUNet, Graph], random_file: bytes
) -> None:
    asked = random_graph[1].operators()
    norms, groups = asked["layer_norm"], asked["group_norm"]
    assert asked["slice"] == 64 and norms == 37  # the paper's network
    *large, _ = [
        node for node in random_graph[1].nodes if node.op == "resize"
    ]  # the last: 1 channel
    written = Counter(node.op_type for node in onnx.load_from_string(random_file).graph.node)
    assert written == {
        "Conv": asked["conv2d"] + asked["depthwise_conv2d"] + 2 * norms,
        "Sub": norms, "Sqrt": norms, "Div": norms, "Mul": asked["mul"] + norms,
        "BatchNormalization": norms + groups, "InstanceNormalization": groups,
        "Reshape": 2 * groups + 4 * len(large) + 5, "Transpose": 2 * len(large) + 2,
        "Split": asked["slice"] // 4, "Concat": asked["concat"],
        "Gelu": asked["gelu"], "MaxPool": asked["max_pool"], "Resize": len(large) + 2,
        "Add": asked["add"], "Sigmoid": 1,
    }  # fmt: skip


def test_constants_are_the_graphs_and_shared(
    random_graph: tuple[EGEUNet, Graph], random_file: bytes
) -> None:
    tensors = onnx.load_from_string(random_file).graph.initializer
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in tensors]
    assert len(set(contents)) == len(contents)
    stored = {numpy_helper.to_array(tensor).tobytes() for tensor in tensors}
    orders = {"conv2d": (0, 3, 1, 2), "depthwise_conv2d": (3, 0, 1, 2), "mul": (0, 3, 1, 2)}
    checked = 0
    for node in random_graph[1].nodes:
        for name in node.inputs:
            data = random_graph[1].values[name].data
            if data is not None:
                turned = data.transpose(orders[node.op]) if data.ndim == 4 else data
                assert turned.tobytes() in stored, (node.op, name)
                checked += 1
    assert checked > 200


def test_same_graph_same_bytes(random_graph: tuple[EGEUNet, Graph], random_file: bytes) -> None:
    assert emit_onnx(random_graph[1], SMALL) == random_file


def test_simplification_is_used_where_it_makes_a_file_smaller(
    random_graph: tuple[EGEUNet, Graph],
) -> None:
    builder = GraphBuilder((1, 64, 96, 3))
    halves = [np.random.default_rng(i).random((1, 64, 96, 3), np.float32) for i in (0, 1)]
    known = builder.add(*map(builder.constant, halves))
    graph = builder.finish(builder.elementwise("sigmoid", builder.mul(builder.input, known)))
    plain = emit._model(graph, SMALL)
    smaller = simplify.smallest(plain)
    assert smaller.ByteSize() < plain.ByteSize() and len(smaller.graph.node) < len(plain.graph.node)
    image, want = single.image_and_result(graph)
    assert_close(run(emit_onnx(graph, SMALL), image), want, OPERATOR_TOLERANCE, "folded")
    already = emit._model(random_graph[1], SMALL)
    assert simplify.smallest(already) is already


def test_simplification_that_changes_the_output_is_refused(
    random_graph: tuple[EGEUNet, Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = emit._model(random_graph[1], SMALL)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    del wrong.metadata_props[:]  # fewer bytes, as if something had been folded
    assert simplify.smallest(model) is model
    monkeypatch.setattr("onnxsim.simplify", lambda given: (wrong, True))
    assert simplify.smallest(model) is wrong
    last_bias = next(
        tensor for node in reversed(wrong.graph.node) if node.op_type == "Conv"
        for tensor in wrong.graph.initializer if tensor.name == node.input[-1]
    )  # fmt: skip
    last_bias.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(last_bias) + np.float32(0.01), last_bias.name)
    )
    assert simplify.smallest(model) is model


def test_unknown_operator_or_type() -> None:
    builder = GraphBuilder((1, 4, 4, 3))
    graph = builder.finish(builder.add_node("quantize", [builder.input], (1, 4, 4, 3)))
    with pytest.raises(NotImplementedError, match="'quantize' with type float32"):
        emit_onnx(graph, SMALL)
    builder = GraphBuilder((1, 4, 4, 3))
    graph = builder.finish(builder.typed(builder.elementwise("gelu", builder.input), "int8"))
    with pytest.raises(NotImplementedError, match="'gelu' with type int8"):
        emit_onnx(graph, SMALL)


@pytest.mark.parametrize("package", ["onnx", "onnxsim"])
def test_missing_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*\[onnx\]"):
        emit_onnx(single.graph_of("gelu"), SMALL)
