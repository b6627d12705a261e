"""--explain: every byte of a file has one kind, and the kinds add up to the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny_models as tiny
from egeunet.export import cli_export
from egeunet.export.explain import explain, explanation_lines, explanation_of
from egeunet.export.graph import Graph, GraphBuilder, Quantization
from egeunet.export.precisions import halve_constants
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import ModelContract
from egeunet.model.errors import InputError

pytestmark = pytest.mark.xdist_group("tflite")
CONTRACT = ModelContract(32, 32)
#: Of the graph below: (5, 3, 3, 3) and (1, 3, 3, 5) weights, two biases, one factor.
CONV, DEPTHWISE, BIASES, FACTOR = 5 * 27, 45, 10, 5
WEIGHTS = CONV + DEPTHWISE


def graph() -> Graph:
    """conv, depthwise, a gate, a slice with its constants, sigmoid."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return rng.random(shape, np.float32)

    b = GraphBuilder((1, 32, 32, 3))
    x = b.depthwise_conv2d(b.conv2d(b.input, random(5, 3, 3, 3), random(5)), random(1, 3, 3, 5),
                           random(5))  # fmt: skip
    x = b.mul(x, b.constant(random(1, 1, 1, 5)))
    return b.finish(b.elementwise("sigmoid", b.slice(x, 1, 1)))


def explained(tmp_path: Path, data: bytes, name: str = "m.tflite") -> dict[str, Any]:
    """The explanation of a file with these bytes, checked to be complete."""
    path = tmp_path / name
    path.write_bytes(data)
    found = explain(path)
    assert found["bytes"] == len(data) == sum(found["bytes_by_kind"].values())
    assert all(size > 0 for size in found["bytes_by_kind"].values())
    return found


@pytest.mark.parametrize("metadata", ["none", "contract", "full"])
def test_tflite_float32(tmp_path: Path, metadata: str) -> None:
    data = emit_tflite(graph(), CONTRACT, metadata)
    found = explained(tmp_path, data)
    kinds = found["bytes_by_kind"]
    model = schema.Model.GetRootAs(data, 0)
    assert kinds["weights"] == 4 * WEIGHTS
    assert kinds["biases"] == 4 * BIASES
    begin_and_size = 2 * 4 * 4
    assert kinds["other constants"] == 4 * FACTOR + begin_and_size
    stored = sum(model.Buffers(i).DataLength() for i in range(model.BuffersLength()))
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    described = sum(model.Buffers(entry.Buffer()).DataLength() for entry in entries)
    constants = sum(kinds[kind] for kind in ("weights", "biases", "other constants"))
    assert constants + described == stored
    # Beside its content an entry takes a table, an offset, a name, and the vector's length.
    around = kinds.get("metadata", 0) - described
    assert (around == 0) if metadata == "none" else (around < 100)
    assert kinds["names"] == sum(
        4 + len(n) + 1 for n in ("image", "probability", "serving_default")
    )
    assert "quantization" not in kinds
    assert found["operators"] == {
        "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "LOGISTIC": 1, "MUL": 1, "SLICE": 1,
    }  # fmt: skip


def test_tflite_float16_weights_are_weights_behind_their_dequantize(tmp_path: Path) -> None:
    found = explained(tmp_path, emit_tflite(halve_constants(graph()), CONTRACT))
    assert found["operators"]["DEQUANTIZE"] > 0
    # The depthwise weights and the biases are so short that they stay float32.
    assert found["bytes_by_kind"]["weights"] == 2 * CONV + 4 * DEPTHWISE
    assert found["bytes_by_kind"]["biases"] == 4 * BIASES


def test_tflite_scales_and_zero_points(tmp_path: Path) -> None:
    b = GraphBuilder((1, 32, 32, 3))
    b.typed(b.input, "int8", Quantization.per_tensor(1 / 255, -128))
    x = b.typed(b.elementwise("sigmoid", b.input), "int8", Quantization.per_tensor(1 / 256, -128))
    kinds = explained(tmp_path, emit_tflite(b.finish(x), CONTRACT))["bytes_by_kind"]
    # Two scales, one zero point that both share (with their lengths), two tables.
    vectors = 2 * (4 + 4) + (4 + 8)
    assert vectors < kinds["quantization"] <= vectors + 2 * 24


def test_tflite_of_another_writer(tmp_path: Path) -> None:
    data = tiny.tflite_bytes(CONTRACT.to_dict(), io="uint8")
    found = explained(tmp_path, data)
    assert found["operators"] == {"CONV_2D": 1, "DEQUANTIZE": 1, "LOGISTIC": 1, "QUANTIZE": 1}
    kinds = found["bytes_by_kind"]
    assert (kinds["weights"], kinds["biases"]) == (3 * 4, 4)
    assert kinds["metadata"] > len(json.dumps(CONTRACT.to_dict()))


def test_bytes_that_nothing_points_to_are_padding(tmp_path: Path) -> None:
    data = emit_tflite(graph(), CONTRACT)
    before = explained(tmp_path, data)["bytes_by_kind"]
    after = explained(tmp_path, data + b"x" * 1000)["bytes_by_kind"]
    assert after == {**before, "padding": before["padding"] + 1000}


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_bytes_end_in_an_answer_or_one_line(
    tmp_path: Path, place: float, value: int, cut: bool
) -> None:
    for name, data in (
        ("m.tflite", emit_tflite(graph(), CONTRACT, "full")), ("m.onnx", tiny.onnx_bytes()),
    ):  # fmt: skip
        at = int(place * len(data))
        broken = data[:at] if cut else data[:at] + bytes([value]) + data[at + 1 :]
        try:
            explained(tmp_path, broken, name)
        except InputError as error:
            assert str(tmp_path / name) in str(error) and "\n" not in str(error)


def test_onnx(tmp_path: Path) -> None:
    contract = CONTRACT.to_dict()
    found = explained(tmp_path, tiny.onnx_bytes(contract), "m.onnx")
    kinds = found["bytes_by_kind"]
    assert found["operators"] == {"Conv": 1, "Sigmoid": 1}
    assert 3 * 4 < kinds["weights"] < 3 * 4 + 20  # with dimensions and type
    assert 4 < kinds["biases"] < 4 + 15
    # image, w, b -> logit -> p0; the constants' and the ends' own; "tiny": tag, length, text
    names = ["image", "w", "b", "logit", "logit", "p0", "w", "b", "image", "p0", "tiny"]
    assert kinds["names"] == sum(2 + len(name) for name in names)
    assert kinds["metadata"] > len(json.dumps(contract))
    assert kinds["header"] < 20


def test_core_ml_package(tmp_path: Path) -> None:
    from egeunet.export.coreml import emit_coreml

    path = tmp_path / "m.mlpackage"
    emit_coreml(graph(), CONTRACT, path, "float16")
    found = explain(path)
    kinds = found["bytes_by_kind"]
    assert set(kinds) == {"program", "weights", "manifest"}
    assert found["bytes"] == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    assert sum(kinds.values()) == found["bytes"]
    assert kinds["weights"] >= 2 * WEIGHTS
    assert found["operators"]["conv"] == 2 and "const" not in found["operators"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m.pb", r"no explanation of '.pb'; known: .mlpackage, .onnx, .tflite"),
        ("absent.tflite", "absent.tflite: not found"),
        ("m.tflite", "m.tflite: damaged file"),
        ("m.onnx", "m.onnx: damaged file"),
        ("m.mlpackage", "m.mlpackage: damaged file"),
    ],
)
def test_refused(tmp_path: Path, name: str, words: str) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(InputError, match=words):
        explain(tmp_path / name)


def test_the_table() -> None:
    lines = explanation_lines(
        {
            "bytes": 1200,
            "bytes_by_kind": {"names": 200, "weights": 1000},
            "operators": {"ADD": 1, "CONV_2D": 12},
        }
    )
    assert [line.split() for line in lines] == [
        ["weights", "1,000", "bytes", "83.3%"],
        ["names", "200", "bytes", "16.7%"],
        ["total", "1,200", "bytes"],
        ["CONV_2D", "12"],
        ["ADD", "1"],
        ["all", "operators", "13"],
    ]


def test_a_format_without_an_explanation_says_so() -> None:
    assert explanation_of(Path("m.ort")) == "  no explanation of .ort files"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tiny.random_weights(tmp_path / "w.safetensors", seed=5, size=32)
    line = ["--format", "tflite", "--weights", str(weights), "--out", str(tmp_path)]
    assert cli_export.main([*line, "--no-check", "--explain"]) == 0
    path = tmp_path / "egeunet_float32.tflite"
    first, *table = capsys.readouterr().out.splitlines()
    assert first.startswith(str(path))
    found = explain(path)
    assert table == explanation_lines(found)
    report = json.loads(Path(f"{path}.json").read_text())
    assert report["bytes_by_kind"] == found["bytes_by_kind"]
    assert sum(report["bytes_by_kind"].values()) == path.stat().st_size
    assert report["metadata"] == "full"
