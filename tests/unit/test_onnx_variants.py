"""ONNX with float16 weights, any size, a fixed batch, and ONNX Runtime's own file format."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

import single_operators as single
import tiny_models as tiny
from egeunet.export import export
from egeunet.export.deploy import build_deploy_graph
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.onnx import emit_onnx
from egeunet.export.onnx.dynamic import build_dynamic_graph
from egeunet.export.onnx.mobile import to_ort
from egeunet.export.request import ExportRequest
from egeunet.export.runners import open_runner
from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract
from egeunet.model.errors import InputError
from egeunet.model.metrics import agreement

pytestmark = pytest.mark.xdist_group("onnx")
NETWORK_TOLERANCE = 1e-4
SMALL = ModelContract(64, 96, threshold=0.4)


@pytest.fixture(scope="module")
def network() -> EGEUNet:
    torch.manual_seed(5)
    return EGEUNet().eval()


@pytest.fixture(scope="module")
def graph(network: EGEUNet) -> Graph:
    return build_deploy_graph(network, SMALL)


@pytest.fixture(scope="module")
def dynamic_file(network: EGEUNet) -> bytes:
    return emit_onnx(build_dynamic_graph(network, SMALL), SMALL, dynamic=True)


def session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, image_nchw: Any) -> Any:
    return session(data).run(["probability"], {"image": image_nchw})[0]


def images(n: int, height: int, width: int) -> Any:
    return np.random.default_rng(0).random((n, 3, height, width), np.float32)


def probability(model: EGEUNet, image_nchw: Any) -> Any:
    """The reference in float64, see test_onnx_emitter.py."""
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(torch.from_numpy(image_nchw).double())
    return exact.probability.numpy()


def assert_close(got: Any, want: Any, tolerance: float, name: str) -> None:
    assert got.shape == want.shape and got.dtype == np.float32, name
    difference = np.abs(got - want)
    assert difference.max() <= tolerance, f"{name}: {difference.max()}, mean {difference.mean()}"


def test_every_variant_is_a_clean_file(network: EGEUNet, graph: Graph, dynamic_file: bytes) -> None:
    three = build_deploy_graph(network, SMALL, batch=3)
    variants = [emit_onnx(graph, SMALL, "float16"), dynamic_file, emit_onnx(three, SMALL)]
    for data, n in zip(variants, (1, "batch", 3), strict=True):
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
        sides = ["height", "width"] if n == "batch" else [64, 96]
        for port, channels in ((model.graph.input[0], 3), (model.graph.output[0], 1)):
            kind = port.type.tensor_type
            assert kind.elem_type == TensorProto.FLOAT
            shape = [side.dim_param or side.dim_value for side in kind.shape.dim]
            assert shape == [n, channels, *sides]
        (entry,) = model.metadata_props
        assert ModelContract.from_dict(json.loads(entry.value)) == SMALL
        assert not any(node.name for node in model.graph.node)


@pytest.mark.parametrize("case", ["conv 3x3", "depthwise, dilation 5", "mul, gate xy",
                                  "group_norm, 20 channels", "layer_norm, 36 channels"]
                         )  # fmt: skip
def test_float16_operator(case: str) -> None:
    graph = single.graph_of(case)
    image, want = single.image_and_result(graph)
    got = run(emit_onnx(graph, SMALL, "float16"), image)
    assert_close(got, want, 1e-2, case)
    assert np.abs(got - want).max() > 1e-5  # the weights are not float32 after all


def test_float16_stores_the_large_weights_once_and_rounded(graph: Graph) -> None:
    model = onnx.load_from_string(emit_onnx(graph, SMALL, "float16"))
    halves = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert sorted(t.name for t in halves) == sorted(node.input[0] for node in casts)
    contents = [(tuple(t.dims), t.raw_data) for t in halves]
    assert len(set(contents)) == len(contents) > 80
    kernels = [node.inputs[1] for node in graph.nodes if node.op == "conv2d"]
    for name in kernels:
        data = graph.values[name].data
        assert data is not None
        kernel = data.transpose(0, 3, 1, 2)
        if kernel.size > 16:
            assert (kernel.shape, kernel.astype(np.float16).tobytes()) in contents, name
    # What the norms compute with is exact: 1 / 36 is none of float16's numbers.
    exact = {t.raw_data for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    assert np.full(36, 1 / 36, np.float32).tobytes() in exact
    assert not any(numpy_helper.to_array(t).size > 300 for t in model.graph.initializer
                   if t.data_type == TensorProto.FLOAT)  # fmt: skip


def test_float16_network(network: EGEUNet, graph: Graph) -> None:
    image = images(1, 64, 96)
    want = probability(network, image)
    got = run(emit_onnx(graph, SMALL, "float16"), image)
    assert_close(got, want, 0.05, "float16 network")
    assert agreement(got[:, 0] >= 0.4, want[:, 0] >= 0.4) >= 0.999


def test_float16_bytes() -> None:
    contract = ModelContract()
    graph = build_deploy_graph(EGEUNet(), contract)
    half, full = (len(emit_onnx(graph, contract, name)) for name in ("float16", "float32"))
    assert half <= 152_000 and half < 0.6 * full, (half, full)


def test_a_weight_beyond_float16() -> None:
    builder = GraphBuilder((1, 4, 5, 3))
    huge = builder.constant(np.full((1, 4, 5, 3), 1e5, np.float32))
    graph = builder.finish(builder.mul("image", huge))
    with pytest.raises(
        InputError, match="100000 is beyond the range of float16; export in float32"
    ):
        emit_onnx(graph, SMALL, "float16")
    assert run(emit_onnx(graph, SMALL), np.ones((1, 3, 4, 5), np.float32)).max() == 1e5


@pytest.mark.parametrize("shape", [(1, 256, 256), (2, 192, 320), (2, 64, 96), (1, 32, 32)], ids=str)
def test_dynamic_file_takes_any_size(
    network: EGEUNet, dynamic_file: bytes, shape: tuple[int, int, int]
) -> None:
    image = images(*shape)
    assert_close(
        run(dynamic_file, image), probability(network, image), NETWORK_TOLERANCE, str(shape)
    )


def test_dynamic_float16(network: EGEUNet, dynamic_file: bytes) -> None:
    data = emit_onnx(build_dynamic_graph(network, SMALL), SMALL, "float16", dynamic=True)
    assert len(data) < 0.7 * len(dynamic_file)
    image = images(2, 96, 64)
    assert_close(run(data, image), probability(network, image), 0.05, "dynamic float16")


@pytest.mark.parametrize("changes", [{"bridge": False}, {"deep_supervision": False},
                                     {"channels": (12, 20, 28, 36, 44, 52)}], ids=str)  # fmt: skip
def test_dynamic_architectures(changes: dict[str, Any]) -> None:
    torch.manual_seed(5)
    model = EGEUNet(EGEUNetConfig(**changes)).eval()
    data = emit_onnx(build_dynamic_graph(model, SMALL), SMALL, dynamic=True)
    image = images(1, 96, 160)
    assert_close(run(data, image), probability(model, image), NETWORK_TOLERANCE, str(changes))


def test_dynamic_resize_by_a_fraction_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="resize of 3 x 5 by a fraction"):
        emit_onnx(single.graph_of("resize 3 to 7"), SMALL, dynamic=True)


def test_the_runner_of_a_dynamic_file_takes_the_contracts_size(
    network: EGEUNet, dynamic_file: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(dynamic_file)
    runner = open_runner(path)
    assert runner.contract == SMALL
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 96, 3), np.uint8)
    want = probability(network, SMALL.normalize(pixels).transpose(0, 3, 1, 2).copy())
    assert_close(runner(pixels), want.transpose(0, 2, 3, 1), NETWORK_TOLERANCE, "runner")
    with pytest.raises(InputError, match="64, 96, 3"):
        runner(np.zeros((1, 96, 96, 3), np.uint8))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_fixed_batch_is_filled_up(
    network: EGEUNet, graph: Graph, tmp_path: Path, count: int
) -> None:
    three, one = tmp_path / "three.onnx", tmp_path / "one.onnx"
    three.write_bytes(emit_onnx(build_deploy_graph(network, SMALL, batch=3), SMALL))
    one.write_bytes(emit_onnx(graph, SMALL))
    pixels = np.random.default_rng(2).integers(0, 256, (count, 64, 96, 3), np.uint8)
    assert_close(open_runner(three)(pixels), open_runner(one)(pixels), 1e-5, "batch of 3")
    assert open_runner(three)(pixels[:0]).shape == (0, 64, 96, 1)
    bound: Any = open_runner(three).bind(np.zeros((1, 64, 96, 3), np.uint8))()
    assert bound.shape == (3, 1, 64, 96)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_ort_file_is_the_onnx_file(graph: Graph, tmp_path: Path, precision: str) -> None:
    data = emit_onnx(graph, SMALL, precision)
    (tmp_path / "m.onnx").write_bytes(data)
    (tmp_path / "m.ort").write_bytes(to_ort(data))
    assert (tmp_path / "m.ort").read_bytes()[4:8] == b"ORTM"
    runners = [open_runner(tmp_path / name) for name in ("m.onnx", "m.ort")]
    assert runners[1].contract == SMALL
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 96, 3), np.uint8)
    assert_close(runners[1](pixels), runners[0](pixels), NETWORK_TOLERANCE, precision)


def test_ort_file_is_what_onnx_runtimes_own_tool_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.tools import convert_onnx_models_to_ort as tool

    data = emit_onnx(single.graph_of("group_norm, 20 channels"), SMALL)
    (tmp_path / "m.onnx").write_bytes(data)
    monkeypatch.setenv("ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL", "disable")
    styles = [tool.OptimizationStyle.Fixed]
    tool.convert_onnx_models_to_ort(tmp_path / "m.onnx", optimization_styles=styles)
    (written,) = tmp_path.glob("*.ort")
    ours, theirs = to_ort(data), written.read_bytes()
    assert len(ours) == len(theirs)
    same = np.frombuffer(ours, np.uint8) == np.frombuffer(theirs, np.uint8)
    assert same[2048:].all()  # before that, operator names in an order of chance


@pytest.mark.parametrize("keep", [0, 7, 1000, 100_000])
def test_a_cut_ort_file(graph: Graph, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.ort"
    path.write_bytes(to_ort(emit_onnx(graph, SMALL))[:keep])
    with pytest.raises(InputError, match=r"m\.ort: not an ONNX file that can be loaded"):
        open_runner(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            ("tflite", "float32", {"dynamic": True}),
            "--dynamic is for format onnx; export format tf",
        ),
        (("ort", "float32", {"dynamic": True}), "--dynamic is for format onnx"),
        (("coreml", "float16", {"batch": 2}), "--batch 2 is for format onnx or ort; a file of"),
        (("tflite", "int8", {"batch": 4}), "format tflite takes one image a run"),
        (("onnx", "int8", {"batch": 2}), "--batch 2 is for float precisions"),
        (("onnx", "int8", {"dynamic": True}), "--dynamic is for float precisions"),
        (("onnx", "float32", {"batch": 0}), "--batch must be 1 to 1024, got 0"),
        (("onnx", "float32", {"batch": 2, "dynamic": True}), "so --batch 2 says nothing"),
    ],
    ids=str,
)
def test_contradictions(values: tuple[str, str, dict[str, Any]], words: str) -> None:
    format, precision, options = values
    with pytest.raises(InputError, match=words):
        ExportRequest(format, precision, **options)


@pytest.mark.parametrize(
    ("format", "precision", "options"),
    [("onnx", "float32", {"dynamic": True}), ("onnx", "float16", {}), ("ort", "float16", {}),
     ("onnx", "float32", {"batch": 4}), ("ort", "float32", {"batch": 2})],
    ids=str,
)  # fmt: skip
def test_exported_and_checked(
    tmp_path: Path, format: str, precision: str, options: dict[str, Any]
) -> None:
    weights = tiny.random_weights(tmp_path / "w.safetensors", seed=5)
    artifact = export(format, precision, weights=weights, out=tmp_path / "o", **options)
    assert artifact.path.name == f"egeunet_{precision}.{format}"
    report = json.loads(Path(f"{artifact.path}.json").read_text())
    assert report["parity"]["checked"] and report["parity"]["measured"]["agreement"] >= 0.999
    assert report["dynamic"] == options.get("dynamic", False)
    assert report["batch"] == (None if report["dynamic"] else options.get("batch", 1))
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == [artifact.path.name, f"{artifact.path.name}.json"]
