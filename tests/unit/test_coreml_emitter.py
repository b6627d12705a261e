"""Core ML packages: what was saved, read back and run by the documentation of MIL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import single_operators as single
from egeunet.export.coreml import emit_coreml, run_package
from egeunet.export.coreml.package import Package
from egeunet.export.deploy import build_deploy_graph
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.atomic import replacing
from egeunet.model.errors import InputError, MissingExtraError

pytestmark = pytest.mark.xdist_group("coreml")
#: Of one operator on values of about 1, and of the whole network's probability.
OPERATOR_TOLERANCE = {"float32": 2e-5, "float16": 2e-2}
NETWORK_TOLERANCE = {"float32": 1e-4, "float16": 5e-2}
PRECISIONS = ("float32", "float16")
CONTRACT = ModelContract(64, 96, threshold=0.4)
ARRAY_CONTRACT = ModelContract(64, 96, normalization="minmax255")


@pytest.fixture(scope="session")
def network() -> tuple[EGEUNet, Graph]:
    torch.manual_seed(5)
    model = EGEUNet().eval()
    return model, build_deploy_graph(model, CONTRACT)


@pytest.fixture(scope="session")
def package(
    network: tuple[EGEUNet, Graph], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Path of the random network in a precision, written once."""
    folder = tmp_path_factory.mktemp("coreml")

    def saved(precision: str) -> Path:
        path = folder / f"{precision}.mlpackage"
        if not path.exists():
            emit_coreml(network[1], CONTRACT, path, precision)
        return path

    return saved


def assert_close(got: torch.Tensor, want: Any, tolerance: float, name: str) -> None:
    assert tuple(got.shape) == want.shape and got.dtype == torch.float32, name
    difference = np.abs(got.numpy() - want)
    assert difference.max() <= tolerance, f"{name}: {difference.max()}, mean {difference.mean()}"


@pytest.mark.parametrize("case", single.CASES)
def test_operator_agrees_with_pytorch(case: str, tmp_path: Path) -> None:
    graph = single.graph_of(case)
    image, want = single.image_and_result(graph)
    emit_coreml(graph, ARRAY_CONTRACT, tmp_path / "m.mlpackage", "float32")
    got = run_package(tmp_path / "m.mlpackage", image)
    assert_close(got, want, OPERATOR_TOLERANCE["float32"], case)


@pytest.mark.parametrize(
    "case", ["conv 3x3", "layer_norm, 36 channels", "group_norm, 8 channels", "resize 3 to 7"]
)
def test_float16_operator(case: str, tmp_path: Path) -> None:
    graph = single.graph_of(case)
    image, want = single.image_and_result(graph)
    emit_coreml(graph, ARRAY_CONTRACT, tmp_path / "m.mlpackage", "float16")
    got = run_package(tmp_path / "m.mlpackage", image)
    assert_close(got, want, OPERATOR_TOLERANCE["float16"], case)
    assert np.abs(got.numpy() - want).max() > 0  # it is not float32 after all


@pytest.mark.parametrize("precision", PRECISIONS)
def test_network_takes_pixels(
    network: tuple[EGEUNet, Graph], package: Callable[[str], Path], precision: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    real = torch.from_numpy(CONTRACT.normalize(pixels)).permute(0, 3, 1, 2)
    with torch.no_grad():
        want = network[0](real).probability.numpy()
    image = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    got = run_package(package(precision), image)
    assert_close(got, want, NETWORK_TOLERANCE[precision], precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_network(shared: Path, tmp_path: Path, precision: str) -> None:
    golden = np.load(shared / "golden" / "egeunet_upstream.npz")
    state = {key[2:]: torch.from_numpy(golden[key]) for key in golden.files if key[:2] == "w:"}
    image, want = golden["x_b"][:1], golden["mask_b"][:1]
    contract = ModelContract(*image.shape[2:], normalization="minmax255")
    graph = build_deploy_graph(EGEUNet.from_public_state_dict(state), contract)
    emit_coreml(graph, contract, tmp_path / "m.mlpackage", precision)
    got = run_package(tmp_path / "m.mlpackage", image)
    assert_close(got, want, NETWORK_TOLERANCE[precision], f"mask_b, {precision}")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_description_and_metadata(package: Callable[[str], Path], precision: str) -> None:
    description = Package(package(precision)).specification.description
    (source,), (result,) = description.input, description.output
    assert (source.name, result.name) == ("image", "probability")
    image = source.type.imageType
    assert (image.width, image.height) == (96, 64)
    assert image.colorSpace == image.ColorSpace.Value("RGB")
    assert list(result.type.multiArrayType.shape) == [1, 1, 64, 96]
    assert result.type.multiArrayType.ArrayDataType.Name(
        result.type.multiArrayType.dataType
    ) == "FLOAT32"  # fmt: skip
    metadata = description.metadata
    assert (metadata.author, metadata.license) == ("egeunet-mobile", "Apache-2.0")
    assert metadata.versionString
    assert "not a medical device" in metadata.shortDescription
    contract = json.loads(metadata.userDefined["egeunet.contract"])
    assert ModelContract.from_dict(contract) == CONTRACT


def test_other_normalization_takes_an_array(network: tuple[EGEUNet, Graph], tmp_path: Path) -> None:
    emit_coreml(network[1], ARRAY_CONTRACT, tmp_path / "m.mlpackage", "float32")
    package = Package(tmp_path / "m.mlpackage")
    (source,) = package.specification.description.input
    assert list(source.type.multiArrayType.shape) == [1, 3, 64, 96]
    assert package.metadata["egeunet.contract"] == json.dumps(
        ARRAY_CONTRACT.to_dict(), separators=(",", ":")
    )
    operations = Counter(operation.type for operation in package.operations())
    assert operations["mul"] == network[1].operators()["mul"]  # none for 1 / 255


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operations_are_the_ones_the_graph_asks_for(
    network: tuple[EGEUNet, Graph], package: Callable[[str], Path], precision: str
) -> None:
    asked = network[1].operators()
    written = Counter(op.type for op in Package(package(precision)).operations())
    written.pop("const")
    groups = asked["group_norm"]
    expected = {
        "conv": asked["conv2d"] + asked["depthwise_conv2d"], "layer_norm": asked["layer_norm"],
        "instance_norm": groups, "batch_norm": groups, "reshape": 2 * groups,
        "split": asked["slice"] // 4, "concat": asked["concat"], "gelu": asked["gelu"],
        "max_pool": asked["max_pool"], "upsample_bilinear": asked["resize"],
        "mul": asked["mul"] + 1, "add": asked["add"], "sigmoid": 1,
    }  # fmt: skip
    if precision == "float16":
        expected["cast"] = 2
    assert written == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_are_in_the_weight_file_bit_for_bit_and_once(
    network: tuple[EGEUNet, Graph], package: Callable[[str], Path], precision: str
) -> None:
    opened = Package(package(precision))
    stored, in_text = [], []
    for operation in opened.operations():
        if operation.type != "const":
            continue
        value = operation.attributes["val"]
        if value.HasField("blobFileValue"):
            kind = value.type.tensorType.dataType
            stored.append(opened.stored(value.blobFileValue, kind).tobytes())
        elif isinstance(data := opened.constant(operation), torch.Tensor):
            assert data.numel() < 10
            in_text.append(data.numpy().astype(precision).tobytes())
    assert len(set(stored)) == len(stored)
    orders = {"conv2d": (0, 3, 1, 2), "depthwise_conv2d": (3, 0, 1, 2), "mul": (0, 3, 1, 2)}
    large = 0
    for node in network[1].nodes:
        for name in node.inputs:
            data = network[1].values[name].data
            if data is not None:
                turned = data.transpose(orders[node.op]) if data.ndim == 4 else data
                assert turned.astype(precision).tobytes() in (
                    stored if data.size >= 10 else in_text
                )
                large += data.size >= 10
    assert large > 150


def test_text_is_small_and_names_are_short(package: Callable[[str], Path]) -> None:
    path = package("float16")
    operations = Package(path).operations()
    constants = [
        op.attributes["val"].SerializeToString() for op in operations if op.type == "const"
    ]
    files = [value for value in constants if b"weight.bin" in value]
    settings = [value for value in constants if b"weight.bin" not in value]
    assert len(set(settings)) == len(settings) and len(set(files)) == len(files)
    program = (path / "Data" / "com.apple.CoreML" / "model.mlmodel").stat().st_size
    assert program < 70_000, program  # 289 KB by the usual road through PyTorch
    names = {output.name for op in operations for output in op.outputs}
    long = {name for name in names if len(name) > 5}
    assert long <= {"probability", "image__scaled__", "image__scaled___y_0"}


def test_same_graph_same_bytes(
    network: tuple[EGEUNet, Graph], package: Callable[[str], Path], tmp_path: Path
) -> None:
    first, second = package("float16"), tmp_path / "again.mlpackage"
    emit_coreml(network[1], CONTRACT, second, "float16")
    files = sorted(f.relative_to(first) for f in first.rglob("*") if f.is_file())
    assert [str(name) for name in files] == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_written_through_a_temporary_folder(tmp_path: Path) -> None:
    target = tmp_path / "m.mlpackage"
    for _ in range(2):  # the second replaces the first
        with replacing(target) as temporary:
            emit_coreml(single.graph_of("gelu"), ARRAY_CONTRACT, temporary, "float16")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.mlpackage"]
    assert Package(target).output_name == "probability"


@pytest.mark.slow  # a new process imports coremltools: 5 seconds alone, twice that beside others
def test_nothing_is_printed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from egeunet.export.coreml import emit_coreml\n"
        "from egeunet.export.graph import GraphBuilder; from egeunet.model import ModelContract\n"
        "b = GraphBuilder((1, 32, 32, 3)); g = b.finish(b.elementwise('gelu', b.input))\n"
        "emit_coreml(g, ModelContract(32, 32), Path(sys.argv[1]), 'float16')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "m.mlpackage")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.mlpackage"
    gelu = single.graph_of("gelu")
    with pytest.raises(
        InputError, match="float16, linear8, palettized6, palettized4, got precision 'int8'"
    ):
        emit_coreml(gelu, CONTRACT, path, "int8")
    builder = GraphBuilder((1, 4, 4, 3))
    graph = builder.finish(builder.add_node("quantize", [builder.input], (1, 4, 4, 3)))
    with pytest.raises(NotImplementedError, match="'quantize' with type float32"):
        emit_coreml(graph, ARRAY_CONTRACT, path, "float32")
    builder = GraphBuilder((1, 4, 4, 3))
    huge = builder.constant(np.full(3, 1e5, np.float32))
    with pytest.raises(InputError, match="100000 is beyond the range of float16"):
        emit_coreml(builder.finish(builder.mul("image", huge)), ARRAY_CONTRACT, path, "float16")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r"\[coreml\]"):
        emit_coreml(gelu, CONTRACT, path, "float32")
    assert not path.exists()
