"""Training: it learns, keeps what is best on validation, and ends in one line if it cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import egeunet.model.training as training_module
import tiny_training as tiny
from egeunet.model import EGEUNet
from egeunet.model.checkpoint import TrainingState
from egeunet.model.errors import InputError, OutputError
from egeunet.model.pictures import Pictures
from egeunet.model.recipe import Recipe, Stage
from egeunet.model.training import Trainer, pooled_iou
from egeunet.model.training_log import COLUMNS, draw_curves, write_log

#: One worker runs all: the finished run is made once.
pytestmark = pytest.mark.xdist_group("training")


Make = Callable[..., Trainer]


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A trainer in ``tmp_path / "run"``."""
    return lambda *arguments, **options: tiny.trainer(tmp_path / "run", *arguments, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainingState:
    """The end of a run that nothing stopped."""
    return tiny.trainer(tmp_path_factory.mktemp("uninterrupted")).run()


def test_the_loss_falls(make: Make) -> None:
    recipe = Recipe(stages=(Stage(32, 16, 4),), validate_every=4, ema=0.9)
    log = make(recipe=recipe, training=tiny.synthetic(12, 0, 32)).run().log
    assert [row["epoch"] for row in log] == [4, 8, 12, 16]
    losses = [row["loss"] for row in log]
    assert losses[-1] < 0.75 * losses[0], losses
    assert all(math.isfinite(value) for row in log for value in row.values())


def test_best_weights_are_the_averaged_ones_best_on_validation_at_the_last_size(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.9, 0.95, 0.2, 0.6, 0.4])
    seen: list[tuple[int, dict[str, torch.Tensor]]] = []

    def fake_iou(model: EGEUNet, pictures: Pictures) -> float:
        masks = tiny.VALIDATION.resized(pictures.images.shape[2]).masks
        assert torch.equal(pictures.masks, masks), "selected on other pictures than validation"
        state = {name: value.clone() for name, value in model.state_dict().items()}
        seen.append((pictures.images.shape[2], state))
        return next(scripted)

    monkeypatch.setattr(training_module, "pooled_iou", fake_iou)
    best: list[float] = []
    trainer = make(
        recipe=replace(tiny.RECIPE, stages=(Stage(32, 2, 4), Stage(64, 3, 4))),
        on_validation=lambda state: best.append(state.best_iou),
    )
    state = trainer.run()
    assert [size for size, _ in seen] == [32, 32, 64, 64, 64]
    assert best == [-1.0, -1.0, 0.2, 0.6, 0.6], "the earlier size counts, or not the best is kept"
    tiny.assert_same(state.best, seen[3][1])
    assert [row["validation_iou"] for row in state.log] == [0.9, 0.95, 0.2, 0.6, 0.4]
    assert not torch.equal(state.model["final.weight"], state.averaged["final.weight"])


def test_a_plateau_keeps_its_last_averaged_weights(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.9, 0.5])
    monkeypatch.setattr(training_module, "pooled_iou", lambda *_: next(scripted))
    plateau = replace(tiny.RECIPE, stages=(Stage(32, 3, 4),), stop=2, keep_last=True)
    state = make(recipe=plateau).run()
    tiny.assert_same(state.best, state.averaged)
    assert state.best_iou == 0.5 and [row["epoch"] for row in state.log] == [1, 2]


def test_the_kept_weights_give_the_iou_that_is_reported(
    uninterrupted: TrainingState,
) -> None:
    model = EGEUNet()
    model.load_state_dict(uninterrupted.best)
    assert pooled_iou(model, tiny.VALIDATION) == uninterrupted.best_iou


def test_the_average_is_the_recurrence(make: Make) -> None:
    trainer = make(recipe=replace(tiny.RECIPE, ema=0.4))
    expected = trainer.model.get_parameter("final.weight").detach().double().clone()
    real = trainer._average

    def average(step: int) -> None:
        real(step)
        decay = min(0.4, (1 + step) / (10 + step))
        new = trainer.model.get_parameter("final.weight").detach().double()
        expected.mul_(decay).add_((1 - decay) * new)

    trainer._average = average  # type: ignore[method-assign]
    averaged = trainer.run().averaged["final.weight"].double()
    assert (averaged - expected).abs().max() <= 1e-6


def test_pooled_iou_is_one_confusion_matrix_over_all_pixels() -> None:
    torch.manual_seed(0)
    model, pictures = EGEUNet(), tiny.synthetic(11, seed=2, size=32)  # more than a batch of 8
    with torch.inference_mode():
        predicted = model(pictures.images.float() / 255).probability.numpy() >= 0.5
    masks = pictures.masks.numpy()
    wanted = (predicted & masks).sum() / (predicted | masks).sum()
    assert pooled_iou(model, pictures) == pytest.approx(wanted, abs=1e-3)


def test_the_recipes_share_of_pooled_dice_is_in_the_loss(make: Make) -> None:
    """On the same first batch, with the same weights."""
    first = [
        make(recipe=replace(tiny.RECIPE, stages=(Stage(64, 1, 12),), pooled=part))
        .run()
        .log[0]["loss"]
        for part in (0.0, 0.5, 1.0)
    ]
    assert len(set(first)) == 3
    assert first[1] == pytest.approx((first[0] + first[2]) / 2, rel=1e-5)


def test_only_kernels_decay(make: Make) -> None:
    trainer = make()
    kernels, vectors = trainer.optimizer.param_groups
    assert kernels["weight_decay"] == tiny.RECIPE.weight_decay and vectors["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in kernels["params"])
    assert all(p.ndim <= 1 for p in vectors["params"])
    count = len(kernels["params"]) + len(vectors["params"])
    assert count == len(list(trainer.model.parameters()))


def test_a_batch_larger_than_the_data_is_the_data(make: Make) -> None:
    trainer = make(recipe=Recipe(stages=(Stage(32, 2, 50),)))
    assert trainer.run().step == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_with_good_weights_kept(
    make: Make, value: float
) -> None:
    trainer = make()

    def spoil() -> None:
        with torch.no_grad():
            trainer.model.get_parameter("final.bias").fill_(value)

    tiny.at_step(trainer, 4, spoil)
    with pytest.raises(InputError, match="at step 4; train anew with a lower learning rate"):
        trainer.run()
    kept = TrainingState.load(trainer.folder)
    assert kept.step == 3
    assert all(torch.isfinite(tensor).all() for tensor in kept.model.values())


def test_an_unwritable_folder_shows_before_the_first_step(make: Make, tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"a file")
    trainer = make()
    tiny.at_step(trainer, 1, lambda: pytest.fail("a step was made"))
    with pytest.raises(OutputError, match="a part of the path is a file"):
        trainer.run()


def test_nothing_to_train_on_is_named() -> None:
    empty = np.zeros((0, 32, 32, 3), np.uint8), np.zeros((0, 32, 32), np.bool_)
    with pytest.raises(InputError, match="the data set is empty"):
        Pictures.from_arrays(*empty)


def test_log_and_curves_say_what_happened(tmp_path: Path, uninterrupted: TrainingState) -> None:
    write_log(tmp_path, uninterrupted)
    draw_curves(tmp_path, uninterrupted)
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert header.split(",") == list(COLUMNS)
    assert [row.split(",")[:3] for row in rows] == [
        ["3", "32", "1"], ["6", "32", "2"], ["9", "64", "1"]
    ]  # fmt: skip
    report = json.loads((tmp_path / "log.json").read_text())
    assert report["log"] == uninterrupted.log
    assert report["best_validation_iou"] == uninterrupted.best_iou
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
