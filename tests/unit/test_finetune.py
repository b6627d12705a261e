"""A fine-tuning: exact resume, and what its recipe exports."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egeunet.export.request import ExportRequest, Source
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import ModelContract, load_weights
from egeunet.model.checkpoint import FILE_NAME, TrainingState
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.errors import InputError, OutputError
from egeunet.model.metrics import counts, scores
from egeunet.model.pictures import Pictures
from egeunet.quantize.finetune import Finetuner
from egeunet.quantize.finetune_networks import network_of
from egeunet.quantize.finetune_plan import FinetunePlan, Phase
from egeunet.quantize.finetune_result import finetuned_recipe
from egeunet.quantize.finetune_validation import Validation
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.recipe_precision import int8_from_recipe
from egeunet.quantize.static_form import StaticForm

#: One worker runs all: the finished run is made once.
pytestmark = pytest.mark.xdist_group("finetune")


def pictures(count: int, seed: int) -> Pictures:
    data = synthetic_dataset(count, 64, seed)
    return Pictures.from_arrays(data.images, data.masks)


TRAINING, VALIDATION = pictures(8, 0), pictures(3, 1)
MODEL, CONTRACT = load_weights()[0], ModelContract(64, 64)
#: Two steps each.
PHASES = (Phase("norms", 1, 1e-3), Phase("float", 1, 3e-4), Phase("integer", 1, 1e-4))
PLAN = FinetunePlan(phases=PHASES, batch=4)
SHA = "0123456789abcdef" * 4


def finetuner(folder: Path, plan: FinetunePlan = PLAN, **options: Any) -> Finetuner:
    training = options.pop("training", TRAINING)
    options = {"compiled": False, "progress": False, **options}
    return Finetuner(plan, MODEL, CONTRACT, training, VALIDATION, folder, **options)


def recipe_of(run: Finetuner) -> StaticRecipe:
    return finetuned_recipe(run, run.run(), SHA, "8 synthetic")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StaticRecipe]:
    """The recipe of a run that nothing stopped."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield recipe_of(finetuner(tmp_path_factory.mktemp("finished")))
    torch.set_num_threads(before)


def test_every_phase_is_logged_and_learns(finished: StaticRecipe) -> None:
    log = finished.details["log"]
    assert [(row["phase"], row["step"]) for row in log] == [
        ("norms", 2),
        ("float", 4),
        ("integer", 6),
    ]
    assert all(0 <= row["mask_iou"] <= 1 and np.isfinite(row["loss"]) for row in log)
    assert finished.details["mask_iou"] == log[-1]["mask_iou"]
    with torch.no_grad():
        pixels = VALIDATION.images.float().contiguous(memory_format=torch.channels_last) / 255
        masks = MODEL(pixels).probability[:, 0].numpy() >= 0.5
    iou = scores(counts(masks, VALIDATION.masks[:, 0].numpy())).iou
    assert finished.details["reference_iou"] == pytest.approx(iou, abs=1e-3)


@pytest.mark.parametrize("step", [1, 2, 3, 6])
def test_a_stopped_run_goes_on_to_the_same_bits(
    step: int, tmp_path: Path, finished: StaticRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finetuner(tmp_path)
    batch, taken = run._batch, []

    def stopping(*arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(*arguments)

    monkeypatch.setattr(run, "_batch", stopping)
    with pytest.raises(KeyboardInterrupt, match=f"checkpoint of step {step}, --resume"):
        run.run()
    assert TrainingState.load(tmp_path).step == step
    recipe = recipe_of(finetuner(tmp_path, resume=True))
    assert recipe.calibration == finished.calibration
    for name, data in finished.constants.items():
        assert np.array_equal(recipe.constants[name], data), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": replace(PLAN, seed=1)}, "follows another plan"),
        ({"training": VALIDATION}, "trained on other data"),
    ],
)
def test_another_plan_or_other_data_are_not_resumed(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    state = TrainingState(PLAN.to_dict(), TRAINING.fingerprint(), 0, {}, {}, {})
    state.save(tmp_path)
    with pytest.raises(InputError, match=message):
        finetuner(tmp_path, resume=True, **change)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    TrainingState(PLAN.to_dict(), TRAINING.fingerprint(), 1, {}, {}, {}).save(tmp_path)
    with pytest.raises(InputError, match="is of another network"):
        finetuner(tmp_path, resume=True).run()


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"nothing to resume: .*{FILE_NAME}"):
        finetuner(tmp_path, resume=True)


def test_a_folder_that_cannot_be_written_shows_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = finetuner(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write"):
        run.run()
    assert run.state.step == 0


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    run = finetuner(tmp_path)
    run.loss.weights["encoder1"] = torch.full((8, 1, 1), torch.nan)
    with pytest.raises(InputError, match="loss nan, gradient nan at step 0"):
        run.run()


# Going on with a recipe

INTEGER = replace(PLAN, phases=(Phase("integer", 1, 1e-12),))


def test_a_recipe_s_network_is_what_the_run_ended_with(finished: StaticRecipe) -> None:
    network = network_of(finished)
    assert network.integer
    with torch.no_grad():
        measured = Validation(MODEL, CONTRACT, VALIDATION)(network)
    assert measured.mask_iou == pytest.approx(finished.details["mask_iou"], abs=1e-3)
    again = network.calibration_ranges()
    assert again == {
        name: pytest.approx(bounds, rel=1e-5, abs=1e-9)
        for name, bounds in finished.calibration.ranges.items()
    }


def test_a_run_goes_on_with_a_recipe(finished: StaticRecipe, tmp_path: Path) -> None:
    """At a rate of nothing it ends where it began, which is not at the folded reference."""
    recipe = recipe_of(finetuner(tmp_path / "a", INTEGER, start=finished))
    fresh = recipe_of(finetuner(tmp_path / "b", INTEGER))
    assert recipe.details["before"] == finished.details
    assert "before" not in fresh.details
    for name, data in finished.constants.items():
        assert np.allclose(recipe.constants[name], data, atol=1e-3), name
    assert any(
        not np.allclose(fresh.constants[name], data, atol=1e-3)
        for name, data in finished.constants.items()
    )


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (PLAN, "goes on with integer phases, the plan begins with norms"),
        (replace(INTEGER, form=StaticForm((1, 2))), "a recipe of another form or size"),
    ],
)
def test_what_does_not_go_on_with_a_recipe(
    plan: FinetunePlan, message: str, finished: StaticRecipe, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        finetuner(tmp_path, plan, start=finished)


# The recipe as a file


@pytest.fixture(scope="module")
def saved(finished: StaticRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "static.safetensors"
    finished.save(path)
    return path


def source(contract: ModelContract = CONTRACT, sha: str = SHA) -> Source:
    return Source(MODEL, contract, "w.safetensors", sha)


def test_a_saved_recipe_is_the_same_recipe(finished: StaticRecipe, saved: Path) -> None:
    loaded = StaticRecipe.load(saved)
    assert loaded.constants.keys() == finished.constants.keys()
    assert (loaded.config, loaded.contract, loaded.form) == (
        finished.config, finished.contract, finished.form,
    )  # fmt: skip
    bounds, ours = loaded.calibration.ranges, finished.calibration.ranges
    assert bounds.keys() == ours.keys()
    assert all(bounds[name] == pytest.approx(ours[name], rel=1e-5) for name in ours)
    again = saved.with_name("again.safetensors")
    loaded.save(again)
    assert again.read_bytes() == saved.read_bytes()


def test_the_recipe_s_file_computes_what_was_trained(finished: StaticRecipe, saved: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    prepared = int8_from_recipe(saved, source(), ExportRequest("tflite", "int8"))
    assert prepared.details["norms"] == "tuned"
    assert {v.dtype for v in prepared.graph.values.values()} == {"uint8", "int8", "int32"}
    data = emit_tflite(prepared.graph, CONTRACT)
    model = interpreter.Interpreter(model_content=data)
    model.allocate_tensors()
    masks = []
    for image in VALIDATION.images.permute(0, 2, 3, 1).numpy():
        model.set_tensor(model.get_input_details()[0]["index"], image[None])
        model.invoke()
        masks.append(model.get_tensor(model.get_output_details()[0]["index"])[0, ..., 0] >= 128)
    iou = scores(counts(np.stack(masks), VALIDATION.masks[:, 0].numpy())).iou
    assert iou == pytest.approx(finished.details["validation_iou"], abs=0.05)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (source(sha="f" * 64), "not of w.safetensors"),
        (source(ModelContract(128, 128)), "a recipe for 64 x 64"),
    ],
)
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_what_a_recipe_does_not_fit(saved: Path, source: Source, format: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        int8_from_recipe(saved, source, ExportRequest(format, "int8"))


def test_the_recipe_of_an_onnx_file_has_float_resizes_only(saved: Path) -> None:
    graph = int8_from_recipe(saved, source(), ExportRequest("onnx", "int8")).graph
    floats = {node.op for node in graph.nodes if graph.values[node.output].dtype == "float32"}
    assert floats == {"resize", "dequantize"}


def test_a_recipe_of_another_graph_or_with_broken_constants(finished: StaticRecipe) -> None:
    name = next(iter(finished.constants))
    for constants, message in (
        ({k: v for k, v in finished.constants.items() if k != name}, "1 constants missing"),
        ({**finished.constants, "c999999": np.zeros(1, np.float32)}, "1 unknown"),
        ({**finished.constants, name: np.zeros((2, 2), np.float32)}, "must be finite of shape"),
        ({**finished.constants, name: finished.constants[name] * np.nan}, "must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            replace(finished, constants=constants).graph()
    with pytest.raises(InputError, match="another version of egeunet-mobile"):
        replace(finished, form=StaticForm((1, 2, 3))).graph()


@pytest.mark.parametrize("damage", ["empty", "cut", "weights", "text"])
def test_a_damaged_recipe_is_one_line(damage: str, saved: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save

    path = tmp_path / "r.safetensors"
    whole = saved.read_bytes()
    contents = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "weights": save({"w": np.zeros(3, np.float32)}),
        "text": save({"w": np.zeros(3, np.float32)}, {"recipe": '{"kind": 1}'}),
    }
    path.write_bytes(contents[damage])
    with pytest.raises(InputError, match=r"r.safetensors: not a recipe of egeunet-quantize"):
        StaticRecipe.load(path)
