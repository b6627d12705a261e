"""egeunet-bench on files that are broken in one place: each is caught, and the place is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import broken_files as broken
from egeunet.benchmarks.bench import Bench
from egeunet.benchmarks.candidates import Choice
from egeunet.benchmarks.labelled_images import synthetic_images
from egeunet.benchmarks.latency import Plan
from egeunet.benchmarks.report.schema import check_report
from egeunet.benchmarks.where import where
from egeunet.export import export
from egeunet.export.lean import build_lean_graph
from egeunet.export.onnx.form import build_onnx_graph
from egeunet.model import ModelContract, load_weights, save_weights
from egeunet.model.errors import InputError

SIDE = 128  # the network is the same at every size, and a quarter of the work
#: File -> layer whose weights are zero in it.
ZEROED = {
    "zero_float32.tflite": "encoder2",
    "zero_float16.tflite": "encoder3",
    "zero_int8.tflite": "decoder4",
    "zero_float32.onnx": "encoder5",
}
BROKEN = (*ZEROED, "inverted.tflite", "zero_point_int8.tflite", "nchw.onnx", "nan.onnx")
HEALTHY = {"tflite": ("float32", "float16", "int8"), "onnx": ("float32",)}
QUICKEST = Plan(runs=1, seconds=0, blocks=1, turns=1, warmup=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights with a contract of small images."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, load_weights()[0], ModelContract(SIDE, SIDE))
    return path


@pytest.fixture(scope="module")
def files(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Healthy exports, and copies that are broken, by name."""
    out = tmp_path_factory.mktemp("files")
    made = [
        export(format, precision, weights=weights, out=out, check=False).path
        for format, precisions in HEALTHY.items()
        for precision in precisions
    ]
    model, contract = load_weights(weights)
    lean, deploy = build_lean_graph(model, contract), build_onnx_graph(model, contract)
    data = {path.name.removeprefix("egeunet_"): path.read_bytes() for path in made}
    bytes_of = {
        "inverted.tflite": broken.with_output_inverted(data["float32.tflite"], lean),
        "zero_point_int8.tflite": broken.with_zero_points_forgotten(data["int8.tflite"]),
        "nchw.onnx": broken.onnx_reading_nchw_as_nhwc(data["float32.onnx"]),
        "nan.onnx": broken.onnx_giving_nan(data["float32.onnx"]),
    }
    for name, scope in ZEROED.items():
        healthy = data[name.removeprefix("zero_")]
        if name.endswith(".onnx"):
            kernel = broken.graph_kernel(deploy, scope)
            bytes_of[name] = broken.onnx_zero_weights(healthy, kernel)
        else:
            number = broken.graph_convolution(lean, scope)
            bytes_of[name] = broken.with_zero_weights(healthy, number)
    for name, content in bytes_of.items():
        (out / name).write_bytes(content)
    return {path.name: path for path in (*made, *(out / name for name in bytes_of))}


@pytest.fixture(scope="module")
def report(weights: Path, files: dict[str, Path]) -> dict[str, Any]:
    """All of them in one report, with --where."""
    choice = Choice(weights, tuple(files.values()), named=True)
    bench = Bench(choice, synthetic_images(4), plan=QUICKEST, find_where=True, pictures=True)
    return check_report(bench.run())


def _rows(report: dict[str, Any], file: str) -> list[dict[str, Any]]:
    rows = [row for row in report["rows"] if row["file"] == file]
    assert rows, f"no row of {file}"
    return rows


def _failed(row: dict[str, Any]) -> set[str]:
    return {gate["name"] for gate in row["gates"] if not gate["passed"]}


def test_the_reference_comes_first_and_agrees_with_itself(report: dict[str, Any]) -> None:
    row = report["rows"][0]
    assert (row["runtime"], row["gates"]) == ("torch", [])
    assert row["accuracy"]["max_abs_diff"] == 0.0 and row["accuracy"]["mask_iou"] == 1.0
    assert row["weight_bytes"] == 4 * 53_374


@pytest.mark.parametrize("format", HEALTHY)
def test_healthy_files_pass(report: dict[str, Any], format: str) -> None:
    for precision in HEALTHY[format]:
        for row in _rows(report, f"egeunet_{precision}.{format}"):
            assert row["precision"] == precision and row["gates"]
            assert not _failed(row), (row["id"], row["gates"])


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_fails_a_gate_in_every_runtime(report: dict[str, Any], name: str) -> None:
    for row in _rows(report, name):
        assert _failed(row), (row["id"], row["accuracy"])
        assert all({"row": row["id"], "name": n} in report["gates_failed"] for n in _failed(row))


@pytest.mark.parametrize(("name", "layer"), ZEROED.items())
def test_where_names_the_layer_whose_weights_are_zero(
    report: dict[str, Any], name: str, layer: str
) -> None:
    for row in _rows(report, name):
        found = row["where"]
        assert found is not None, report["skipped"]
        assert found["layer"] == layer, found["table"][:3]
        first = next(entry for entry in found["table"] if entry["own"] > found["limit"])
        assert (first["tensor"], first["layer"]) == (found["tensor"], layer)
        assert first["operator"] in ("conv2d", "depthwise_conv2d")
        assert found["compared"] > 200


def test_where_names_the_inverted_convolution(report: dict[str, Any]) -> None:
    assert _rows(report, "inverted.tflite")[0]["where"]["layer"] == "final"


def test_a_file_that_gives_nan_is_a_row_with_its_reason(report: dict[str, Any]) -> None:
    (row,) = _rows(report, "nan.onnx")
    assert row["accuracy"]["non_finite"] == 4
    assert "non_finite" in _failed(row)
    assert "NaN" in row["note"]


def test_where_is_not_looked_for_in_healthy_files(report: dict[str, Any]) -> None:
    assert all(row["where"] is None for row in report["rows"] if not _failed(row))


def test_each_file_has_a_picture_of_its_worst_mask(report: dict[str, Any]) -> None:
    drawn = {(entry["row"].split("|")[0], entry["kind"]) for entry in report["pictures"]}
    names = {row["file"] for row in report["rows"][1:]}
    assert drawn == {(name, kind) for name in names for kind in ("worst", "difference")}


@pytest.mark.parametrize("format", HEALTHY)
def test_nothing_departs_in_a_healthy_file(
    weights: Path, files: dict[str, Path], format: str
) -> None:
    pixels = np.stack([image for _, image, _ in synthetic_images(2).load(load_weights(weights)[1])])
    for precision in HEALTHY[format]:
        path = files[f"egeunet_{precision}.{format}"]
        found = where(path, weights, precision, pixels)
        largest = max(row["own"] for row in found["table"])
        assert (found["tensor"], found["layer"]) == ("", ""), (precision, largest)


def test_where_refuses_a_file_of_another_network(
    weights: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    model = broken.tflite(files["egeunet_float32.tflite"].read_bytes())
    del model.subgraphs[0].operators[10]
    path = tmp_path / "other.tflite"
    path.write_bytes(broken.packed(model))
    with pytest.raises(InputError, match="not those of an export of these weights"):
        where(path, weights, "float32", np.zeros((1, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(InputError, match=r"in \.tflite and \.onnx files"):
        where(tmp_path / "model.mlpackage", weights, None, np.zeros((1, SIDE, SIDE, 3), np.uint8))
