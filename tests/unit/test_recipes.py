"""Recipes: which kinds there are, what one does to an export, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tiny_models as tiny
from egeunet.export import export
from egeunet.export.exporter import load_source
from egeunet.export.lean import build_lean_graph
from egeunet.export.request import ExportRequest, Source
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.errors import GateError, InputError
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.mixed_recipe import MixedRecipe
from egeunet.quantize.precision import int8
from egeunet.quantize.recipes import kind_of
from egeunet.quantize.search import Step

pytestmark = pytest.mark.xdist_group("tflite")
STEP = Step(2, 28, 123_456, 0.15, 0.97)
KEPT = ("encoder1/group_norm", "decoder4/group_norm")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


@pytest.fixture(scope="module")
def source(weights: Path) -> Source:
    return load_source(ExportRequest("tflite", "int8", weights=weights))


@pytest.fixture(scope="module")
def calibration(source: Source) -> Calibration:
    graph = build_lean_graph(source.model, source.contract)
    images = [synthetic_sample(index, 64, 7)[0] for index in range(2)]
    return calibrate(graph, source.contract, images, source="2 tests", weights_sha256=source.sha256)


@pytest.fixture
def recipe(calibration: Calibration) -> MixedRecipe:
    steps = (replace(STEP, groups=0, iou_drop=3.0), STEP)
    return MixedRecipe(KEPT, 0.2, STEP, steps, calibration, "speed", "9 tests", 9, "ab", 0.8)


def prepared(path: Path, source: Source, **changes: Any) -> Any:
    request = ExportRequest("tflite", "int8", recipe=path, **changes)
    contract = source.contract
    if request.size is not None:
        contract = replace(contract, height=request.size, width=request.size)
    resized = replace(source, contract=contract)
    return int8(build_lean_graph(source.model, contract, request.optimize), resized, request)


def test_a_mixed_recipe_keeps_its_scopes_in_float_and_no_more(
    recipe: MixedRecipe, source: Source, tmp_path: Path
) -> None:
    recipe.save(tmp_path / "r.json")
    assert MixedRecipe.load(tmp_path / "r.json").save(tmp_path / "again.json") is None
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "r.json").read_bytes()
    found = prepared(tmp_path / "r.json", source)
    floats = {
        node.scope for node in found.graph.nodes
        if found.graph.values[node.output].dtype == "float32" and node.op != "dequantize"
    }  # fmt: skip
    assert floats == set(KEPT)
    integers = {n.scope for n in found.graph.nodes if found.graph.values[n.output].dtype == "int8"}
    assert integers >= {"encoder4/layer_norm", "encoder2/group_norm", "GAB1"}
    assert found.details["recipe"] == "r.json" and found.details["kept_float"] == list(KEPT)
    assert found.details["measured"]["iou_drop"] == 0.15
    assert found.details["measured"]["max_drop"] == 0.2
    assert found.details["calibration"] == "2 tests"


def test_a_calibration_is_a_recipe_too(
    calibration: Calibration, source: Source, tmp_path: Path
) -> None:
    calibration.save(tmp_path / "c.json")
    found = prepared(tmp_path / "c.json", source)
    scopes = {
        node.scope for node in found.graph.nodes
        if found.graph.values[node.output].dtype == "float32" and node.op != "dequantize"
    }  # fmt: skip
    assert "encoder2/group_norm" in scopes and "GAB1" not in scopes  # the default way
    assert found.details == {
        "recipe": "c.json", "norms": "exact", "calibration": "2 tests", "calibration_images": 2,
        "calibration_method": "min-max",
    }  # fmt: skip


def test_the_ranges_are_the_recipes(
    calibration: Calibration, source: Source, tmp_path: Path
) -> None:
    wider = {name: (2 * low, 2 * high) for name, (low, high) in calibration.ranges.items()}
    for name, ranges in (("a.json", calibration.ranges), ("b.json", wider)):
        replace(calibration, ranges=ranges).save(tmp_path / name)
    one, two = (prepared(tmp_path / name, source).graph for name in ("a.json", "b.json"))
    scales = [
        [
            float(graph.values[node.output].quantization.scale[0])
            for node in graph.nodes
            if node.op == "sub" and graph.values[node.output].quantization is not None
        ]
        for graph in (one, two)
    ]
    assert scales[0] and scales[1] == pytest.approx([2 * scale for scale in scales[0]], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights_sha256": "0" * 64}, "made for weights 000000000000, not for w.safetensors"),
        ({"graph_sha256": "0" * 64}, "made for another graph .another version of egeunet-mobile"),
    ],
)
def test_another_origin_is_refused(
    recipe: MixedRecipe, source: Source, tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    other = replace(recipe.calibration, **changes)
    replace(recipe, calibration=other).save(tmp_path / "r.json")
    other.save(tmp_path / "c.json")
    for name in ("r.json", "c.json"):
        with pytest.raises(InputError, match=rf"{name}: {words}.*make it again"):
            prepared(tmp_path / name, source)


def test_another_request_is_refused(recipe: MixedRecipe, source: Source, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    recipe.save(path)
    for changes, words in (
        ({"size": 96}, r"made for 64 x 64 pixels, asked for 96 x 96; export with --size 64"),
        ({"optimize": "size"}, r"made for --optimize speed, asked for size"),
    ):
        with pytest.raises(InputError, match=rf"r\.json: {words}"):
            prepared(path, source, **changes)
    replace(recipe, keep_float=("encoder9",)).save(path)
    with pytest.raises(InputError, match=r"r\.json: no operators 'encoder9' in this graph"):
        prepared(path, source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("step"), "'step'"), (lambda v: v.update(schema_version=7), "version 7"),
        (lambda v: v.update(more=1), "more"), (lambda v: v.update(keep_float=[3]), "must be text"),
        (lambda v: v.update(keep_float=3), "not a recipe"),
        (lambda v: v.update(max_drop=0.1), "above the 0.1 asked for"),
        (lambda v: v.update(max_drop="x"), "max_drop must be a finite number"),
        (lambda v: v["step"].update(iou_drop=float("nan")), "finite"),
        (lambda v: v["step"].update(bytes=1), "none of the steps"),
        (lambda v: v["calibration"]["ranges"].update(image=[0, 9]), "calibration was altered"),
        (lambda v: v["calibration"].pop("ranges"), "'ranges'"),
    ],
)  # fmt: skip
def test_an_altered_recipe_is_refused(
    recipe: MixedRecipe, tmp_path: Path, change: Any, words: str
) -> None:
    path = tmp_path / "r.json"
    recipe.save(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(
        InputError, match=rf"r\.json: not a recipe of .* search \(.*{words}|{words}"
    ):
        MixedRecipe.load(path)


def test_what_says_no_kind_is_no_recipe(weights: Path, tmp_path: Path) -> None:
    cases = {"absent.json": None, "a.json": "", "b.json": "[]", "c.json": "{}", "d.txt": "{}",
             "e.json": "null", "f.safetensors": "x", "g.json": "3"}  # fmt: skip
    for name, text in cases.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=rf"{name}.*egeunet-quantize"):
            kind_of(tmp_path / name)
    with pytest.raises(InputError, match=r"w\.safetensors: not a recipe .*no 'recipe' in it"):
        kind_of(weights)


def test_kinds_are_told_apart(source: Source, tmp_path: Path) -> None:
    values = {"kind": "egeunet static int8 recipe"}
    path = tmp_path / "s.safetensors"
    save_file({"c1": np.zeros(1, np.float32)}, path, {"recipe": json.dumps(values)})
    assert kind_of(path) == values["kind"]
    with pytest.raises(InputError, match=r"s\.safetensors: not a recipe .*'schema_version'"):
        prepared(path, source)  # read by the one who knows the kind
    (tmp_path / "u.json").write_text('{"kind": "cake"}')
    with pytest.raises(InputError, match=r"u\.json: a recipe of unknown kind 'cake'; known: egeu"):
        prepared(tmp_path / "u.json", source)


def test_an_export_by_recipe_and_its_size_target(
    recipe: MixedRecipe, weights: Path, tmp_path: Path
) -> None:
    recipe.save(tmp_path / "r.json")
    options: dict[str, Any] = {"weights": weights, "out": tmp_path, "recipe": tmp_path / "r.json"}
    report = export("tflite", "int8", check=False, target_bytes=10**6, **options).report
    assert report["details"]["recipe"] == "r.json"
    assert (report["target_bytes"], report["within_target"]) == (10**6, True)
    file, size = tmp_path / "egeunet_int8.tflite", report["bytes"]
    export("tflite", "int8", check=False, target_bytes=size, **options)  # just as large
    file.unlink()
    words = rf"target of {size - 100:,} bytes missed: .* has {size:,} bytes, 100 \(0\.1%\) more"
    with pytest.raises(GateError, match=words + "; kept all the same"):
        export("tflite", "int8", check=False, target_bytes=size - 100, **options)
    assert file.stat().st_size == size
    kept = json.loads(Path(f"{file}.json").read_text())
    assert (kept["target_bytes"], kept["within_target"]) == (size - 100, False)


def test_without_a_target_the_usual_one_is_reported(weights: Path, tmp_path: Path) -> None:
    report = export("tflite", "float32", check=False, weights=weights, out=tmp_path).report
    assert (report["target_bytes"], report["within_target"]) == (51_200, False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "float32", "recipe": Path("r")}, "--recipe is for --int8, not for"),
        ({"recipe": Path("r"), "calibration": Path("c")}, "--recipe has its own calibration"),
        ({"target_bytes": 0}, "--target-bytes must be 1 or more, got 0"),
    ],
)
def test_requests_that_contradict_themselves(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExportRequest(**{"format": "tflite", "precision": "int8", **changes})
