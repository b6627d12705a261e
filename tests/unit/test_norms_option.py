"""Which int8 an export makes: exact norms, or those of a shipped recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from egeunet.export.lean import build_lean_graph
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import ModelContract, load_weights
from egeunet.model.data.synthetic import synthetic_dataset, synthetic_sample
from egeunet.model.errors import InputError
from egeunet.quantize import recipe_precision
from egeunet.quantize.calibration import calibrate
from egeunet.quantize.precision import int4_mixed, int8, int8_mixed, int8_tuned
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import build_static_graph, static_names
from egeunet.quantize.static_norms import with_static_norms

MODEL, CONTRACT, FORM = load_weights()[0], ModelContract(64, 64), StaticForm()
SOURCE = Source(MODEL, CONTRACT, "w.safetensors", "ab" * 32)


@pytest.fixture(scope="module")
def recipe() -> StaticRecipe:
    """One that nothing was trained for."""
    data = synthetic_dataset(2, 64)
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255
    model = with_static_norms(MODEL, static_names(MODEL, FORM), images)
    graph = build_static_graph(model, CONTRACT, FORM).graph
    ranges = calibrate(graph, CONTRACT, data.images, source="2", weights_sha256=SOURCE.sha256)
    constants = {value.name: value.data for value in graph.constants() if value.data is not None}
    return StaticRecipe(
        constants, MODEL.config, CONTRACT, FORM, ranges, {"note": "untrained", "mask_iou": 0.9}
    )


@pytest.fixture
def shipped(recipe: StaticRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(
        recipe, form=replace(FORM, pointwise_bits=4), details={"note": "small", "mask_iou": 0.8}
    )
    recipes = [recipe, small]  # the better one first
    monkeypatch.setattr(recipe_precision, "shipped_recipes", lambda: recipes)


def made(source: Source = SOURCE, **options: Any) -> Prepared:
    request = ExportRequest("tflite", "int8", **options)
    return int8(build_lean_graph(source.model, source.contract), source, request)


def float_operators(prepared: Prepared) -> int:
    graph = prepared.graph
    return sum(graph.values[node.output].dtype == "float32" for node in graph.nodes)


@pytest.mark.usefixtures("shipped")
def test_tuned_norms_are_a_shipped_recipe_of_these_weights() -> None:
    prepared = made(norms="tuned")
    assert prepared.details["norms"] == "tuned"
    assert prepared.details["finetuning"]["note"] == "untrained"
    assert float_operators(prepared) == 0


@pytest.mark.parametrize(
    ("norms", "found"), [(None, "tuned"), ("tuned", "tuned"), ("exact", "exact")]
)
@pytest.mark.usefixtures("shipped")
def test_tuned_norms_are_the_default_where_there_are_some(norms: str | None, found: str) -> None:
    prepared = made(norms=norms)
    assert prepared.details["norms"] == found
    assert (float_operators(prepared) > 0) == (found == "exact")


def file_bytes(prepared: Prepared) -> int:
    return len(emit_tflite(prepared.graph, CONTRACT))


@pytest.mark.usefixtures("shipped")
def test_the_best_file_that_holds_the_target_is_taken() -> None:
    sizes = {note: file_bytes(prepared) for note, prepared in both().items()}
    assert sizes["small"] < sizes["untrained"]
    for target, note in (
        (sizes["untrained"], "untrained"),
        (sizes["untrained"] - 1, "small"),
        (1000, "small"),  # neither fits: the smaller one shows how close it came
    ):
        for norms in (None, "tuned"):
            prepared = made(target_bytes=target, norms=norms)
            assert prepared.details["finetuning"]["note"] == note
    exact = made(target_bytes=sizes["small"], norms="exact")
    assert exact.details["norms"] == "exact"


def both() -> dict[str, Prepared]:
    """What is made of either recipe, by its note."""
    graph = build_lean_graph(MODEL, CONTRACT)
    small = int4_mixed(graph, SOURCE, ExportRequest("tflite", "int4-mixed"))
    tuned = int8_tuned(graph, SOURCE, ExportRequest("tflite", "int8-tuned"))
    return {"untrained": tuned, "small": small}


def test_no_recipe_of_four_bits_is_one_line() -> None:
    graph = build_lean_graph(MODEL, CONTRACT)
    with pytest.raises(InputError, match="int4-mixed: no recipe with 4-bit kernels is shipped"):
        int4_mixed(graph, SOURCE, ExportRequest("tflite", "int4-mixed"))


@pytest.mark.usefixtures("shipped")
def test_mixed_precision_is_the_exact_norms_whatever_is_shipped() -> None:
    graph = build_lean_graph(MODEL, CONTRACT)
    prepared = int8_mixed(graph, SOURCE, ExportRequest("tflite", "int8-mixed"))
    assert prepared.details["norms"] == "exact"
    assert float_operators(prepared) > 0


@pytest.mark.parametrize(
    "source",
    [replace(SOURCE, sha256="cd" * 32), replace(SOURCE, contract=ModelContract(96, 96))],
    ids=["other weights", "another size"],
)
@pytest.mark.usefixtures("shipped")
def test_where_no_recipe_fits_norms_are_exact_unless_tuned_ones_are_asked_for(
    source: Source,
) -> None:
    assert made(source, target_bytes=1000).details["norms"] == "exact"
    side = source.contract.height
    with pytest.raises(InputError, match=f"shipped for w.safetensors at {side} x {side}; make"):
        made(source, norms="tuned")


@pytest.mark.usefixtures("shipped")
def test_images_to_calibrate_on_mean_exact_norms(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(synthetic_sample(0, 64)[0]).save(tmp_path / "a.png")
    assert made(calibration=tmp_path).details["norms"] == "exact"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norms": "none"}, "--norms must be tuned or exact, got 'none'"),
        ({"norms": "exact", "precision": "float32"}, "--norms is for --int8"),
        ({"norms": "exact", "recipe": Path("r.json")}, "--recipe says which norms"),
        ({"norms": "tuned", "calibration": Path("d")}, "leave --calibration out"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExportRequest(**{"format": "tflite", "precision": "int8", **options})
