"""The exporter: report, sizes, refusals, and what is left behind when it fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.export import cli_export, export, exporter
from egeunet.export.graph import Graph
from egeunet.export.tflite import emit
from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract, save_weights
from egeunet.model.errors import GateError, InputError, OutputError

pytestmark = pytest.mark.xdist_group("tflite")
#: What design.md promises about FILE.json.
PROMISED = {
    "schema_version", "format", "precision", "bytes", "bytes_deflated", "sha256", "ops",
    "weight_bytes", "target_bytes", "contract", "source_weights", "environment",
}  # fmt: skip


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


@pytest.fixture
def small_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four synthetic pictures instead of 48."""
    monkeypatch.setattr("egeunet.quantize.precision._SYNTHETIC_IMAGES", 4)


@pytest.mark.usefixtures("small_calibration")
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_report(weights: Path, tmp_path: Path, precision: str) -> None:
    artifact = export("tflite", precision, weights=weights, out=tmp_path, check=False)
    assert artifact.path == tmp_path / f"egeunet_{precision}.tflite"
    report = json.loads((tmp_path / f"egeunet_{precision}.tflite.json").read_text())
    assert report == json.loads(json.dumps(artifact.report))
    data = artifact.path.read_bytes()
    assert set(report) >= PROMISED
    assert report["schema_version"] == 1
    assert (report["format"], report["precision"]) == ("tflite", precision)
    assert report["file"] == artifact.path.name
    assert report["bytes"] == len(data) > report["bytes_deflated"] > 0
    assert report["sha256"] == hashlib.sha256(data).hexdigest()
    assert report["target_bytes"] == 51_200
    assert report["within_target"] == (len(data) <= 51_200)
    assert report["operators"] == sum(report["ops"].values()) > 100
    assert 52_000 < report["weight_bytes"] < len(data)
    assert report["contract"] == ModelContract(64, 64).to_dict()
    assert report["source_weights"] == {
        "file": "w.safetensors", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert {"numpy", "torch", "ai-edge-litert"} <= set(report["environment"]["packages"])
    assert report["parity"] == {"checked": False, "reason": "switched off"}
    assert str(tmp_path) not in json.dumps(report)
    if precision == "int8":
        assert report["io"] == "uint8"
        assert report["details"] == {
            "norms": "exact",
            "calibration": "synthetic images",
            "calibration_images": 4,
            "calibration_method": "min-max",
        }
        assert 0 < report["float_operators"] < report["operators"]
    else:
        assert report["float_operators"] == report["operators"] - report["ops"].get("dequantize", 0)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [artifact.path.name, artifact.path.name + ".json"]


def test_a_second_export_gives_the_same_file(weights: Path, tmp_path: Path) -> None:
    files = [
        export("tflite", weights=weights, out=tmp_path / name, check=False).path.read_bytes()
        for name in ("a", "b")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("size", [32, 128, 320])
def test_size(weights: Path, tmp_path: Path, size: int) -> None:
    artifact = export("tflite", weights=weights, out=tmp_path, size=size, check=False)
    contract = artifact.report["contract"]
    assert (contract["height"], contract["width"]) == (size, size)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(artifact.path))
    interpreter.allocate_tensors()
    for details, channels in (
        (interpreter.get_input_details(), 3), (interpreter.get_output_details(), 1),
    ):  # fmt: skip
        assert details[0]["shape"].tolist() == [1, size, size, channels]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 250}, "multiple of 32, got 250; try 256"),
        ({"size": -32}, "multiple of 32, got -32; try 32"),
        ({"size": 0}, "multiple of 32, got 0; try 32"),
        ({"io": "uint8"}, "--io uint8 needs --int8"),
        ({"format": "pb"}, "unknown format 'pb'; known: coreml, onnx, ort, tflite"),
        ({"precision": "int4"}, "unknown precision 'int4'; known: float16, float32, int4-mixed"),
        ({"format": "ort", "precision": "int8"}, "format ort has no precision 'int8'"),
        ({"calibration": "photos"}, "--calibration is for --int8"),
        ({"weights": "absent.safetensors"}, "weights not found: absent.safetensors"),
        ({"precision": "int8", "calibration": "absent"}, "absent"),
    ],
    ids=str,
)
def test_refused(weights: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        export(**{"weights": weights, "out": tmp_path, "check": False, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_two_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    save_weights(path, EGEUNet(EGEUNetConfig(num_classes=2)), ModelContract(64, 64))
    with pytest.raises(InputError, match="2 classes"):
        export("tflite", weights=path, out=tmp_path / "out", check=False)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def broken_emitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last convolution's kernel and bias are written as zeros."""
    write = emit.emit_tflite

    def zeroed(graph: Graph, *rest: Any) -> bytes:
        last = [node for node in graph.nodes if node.op == "conv2d"][-1]
        values = dict(graph.values)
        for name in last.inputs[1:]:
            data = values[name].data
            assert data is not None
            values[name] = replace(values[name], data=np.zeros_like(data))
        return write(Graph(graph.input, graph.output, graph.nodes, values), *rest)

    monkeypatch.setattr(emit, "emit_tflite", zeroed)


@pytest.fixture
def quick_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT without its trial in another process, which costs seconds."""
    from egeunet.export.runners import litert_runner

    monkeypatch.setattr(litert_runner, "_try_in_another_process", lambda path: None)


@pytest.mark.usefixtures("quick_runner")
def test_a_good_file_passes_its_gates(weights: Path, tmp_path: Path) -> None:
    report = export("tflite", weights=weights, out=tmp_path).report
    assert report["parity"]["checked"] is True
    assert report["parity"]["measured"]["max_abs_diff"] <= 1e-3


@pytest.mark.usefixtures("quick_runner", "broken_emitter")
def test_a_broken_file_is_not_kept(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"egeunet_float32\.tflite is not as good as"):
        export("tflite", weights=weights, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_runner", "broken_emitter")
def test_a_broken_file_does_not_replace_a_good_one(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = {"egeunet_float32.tflite": b"older", "egeunet_float32.tflite.json": b"{}"}
    for name, data in older.items():
        (tmp_path / name).write_bytes(data)
    line = ["--format", "tflite", "--weights", str(weights), "--out", str(tmp_path)]
    assert cli_export.main(line) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("egeunet-export: error: egeunet_float32.tflite is not as good")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == older


@pytest.mark.parametrize("where", ["write", "describe", "prepare"])
def test_nothing_is_left_by_a_failure(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device") if where == "write" else RuntimeError("x")

    target: dict[str, Callable[[], None]] = {
        "write": lambda: monkeypatch.setattr(emit, "emit_tflite", fail),
        "describe": lambda: monkeypatch.setattr(exporter, "describe_artifact", fail),
        "prepare": lambda: monkeypatch.setattr(exporter, "find_precision", lambda name: fail),
    }
    target[where]()
    expected = OutputError if where == "write" else RuntimeError
    with pytest.raises(expected):
        export("tflite", weights=weights, out=tmp_path, check=False)
    assert list(tmp_path.iterdir()) == []
