"""The precision int8: which images it is calibrated on, and when the shipped ranges count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny_models as tiny
from egeunet.export import export, exporter
from egeunet.export.deploy import build_deploy_graph
from egeunet.export.exporter import deploy_graph, load_source
from egeunet.export.graph import Graph
from egeunet.export.lean import build_lean_graph
from egeunet.export.registry import Prepared, find_format
from egeunet.export.request import OPTIMIZATIONS, ExportRequest, Source
from egeunet.model import EGEUNet, ModelContract
from egeunet.quantize import precision
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.precision import shipped_calibrations

pytestmark = pytest.mark.xdist_group("tflite")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


def test_int8_is_calibrated_on_the_folder_that_is_given(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):  # any size
        pixels = rng.integers(0, 256, (40 + index, 50, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    seen: list[Prepared] = []
    quantized = precision.int8

    def spy(*arguments: Any) -> Prepared:
        seen.append(quantized(*arguments))
        return seen[-1]

    monkeypatch.setattr(exporter, "find_precision", lambda name: spy)
    report = export(
        "tflite", "int8", weights=weights, out=tmp_path / "o", calibration=photos, check=False
    ).report
    assert report["details"] == {
        "norms": "exact",
        "calibration": "3 images of photos",
        "calibration_images": 3,
        "calibration_method": "min-max",
    }
    assert seen[0].graph.values[seen[0].graph.input].dtype == "uint8"


def test_shipped_calibration_is_for_its_weights_and_graph_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, contract = EGEUNet().eval(), ModelContract(64, 64)
    graph = build_deploy_graph(model, contract)
    shipped = Calibration({}, "shipped", 9, "ab", 64, 64, graph.structure_sha256())
    monkeypatch.setattr(precision, "shipped_calibrations", lambda: [shipped])
    monkeypatch.setattr(precision, "calibrate", lambda *_, source, **__: source)

    def chosen(graph: Graph, sha256: str) -> Any:
        source = Source(model, contract, "w.safetensors", sha256)
        return precision.calibration_for(graph, source, None)

    assert chosen(graph, "ab") is shipped
    assert chosen(graph, "cd") == "synthetic images"
    larger = build_deploy_graph(model, ModelContract(64, 96))
    assert chosen(larger, "ab") == "synthetic images"


def test_a_calibration_of_the_onnx_form_is_shipped() -> None:
    request = ExportRequest("onnx", "int8")
    source = load_source(request)
    graph = deploy_graph(find_format("onnx"), source, request)
    assert any(shipped.matches(graph, source.sha256) for shipped in shipped_calibrations()), (
        "record it again: egeunet-quantize calibrate --data DIR --format onnx "
        "--out quantize/shipped/calibration_onnx.json"
    )


@pytest.mark.parametrize("optimize", OPTIMIZATIONS)
def test_the_shipped_calibration_is_of_todays_graph_and_weights(optimize: str) -> None:
    source = load_source(ExportRequest("tflite", "int8", optimize=optimize))
    graph = build_lean_graph(source.model, source.contract, optimize)
    assert any(shipped.matches(graph, source.sha256) for shipped in shipped_calibrations()), (
        f"record it again: egeunet-quantize calibrate --data DIR --optimize {optimize} "
        f"--out quantize/shipped/calibration_{optimize}.json"
    )
