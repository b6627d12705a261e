"""Training: it learns, goes on exactly where it stopped, and selects on validation only."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import egeunet.model.training as training_module
from egeunet.model import EGEUNet, EGEUNetConfig
from egeunet.model.checkpoint import FILE_NAME, TrainingState
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.errors import InputError, OutputError
from egeunet.model.pictures import Pictures
from egeunet.model.recipe import Recipe, Stage
from egeunet.model.training import CHECKPOINT_SECONDS, Trainer, pooled_iou
from egeunet.model.training_log import COLUMNS, draw_curves, write_log

TINY = Recipe(stages=(Stage(32, 2, 4), Stage(64, 1, 4)), validate_every=1)
#: Of TINY: two epochs and one, three steps each.
STEPS = 9

Make = Callable[..., Trainer]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def synthetic(count: int, seed: int, size: int = 64) -> Pictures:
    data = synthetic_dataset(count, size, seed)
    return Pictures.from_arrays(data.images, data.masks)


TRAINING, VALIDATION = synthetic(12, seed=0), synthetic(4, seed=1)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A trainer in ``tmp_path / name``."""

    def build(name: str = "run", recipe: Recipe = TINY, **options: Any) -> Trainer:
        pictures = {"training": TRAINING, "validation": VALIDATION, **options}
        return Trainer(
            recipe,
            pictures.pop("training"),
            pictures.pop("validation"),
            tmp_path / name,
            **{"compiled": False, "progress": False, **pictures},
        )

    return build


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainingState:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return Trainer(TINY, TRAINING, VALIDATION, folder, compiled=False, progress=False).run()


def assert_same(ours: Any, theirs: Any, name: str = "state") -> None:
    """Bit by bit, through dicts and lists."""
    if isinstance(theirs, torch.Tensor):
        difference = (ours - theirs).abs()
        assert torch.equal(ours, theirs), (
            f"{name}: max difference {difference.max():.3g}, mean {difference.mean():.3g}"
        )
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), name
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{name}.{key}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), name
        for index, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, two, f"{name}[{index}]")
    else:
        assert ours == theirs, f"{name}: {ours} != {theirs}"


def at_step(trainer: Trainer, step: int, act: Callable[[], object]) -> None:
    """Call ``act`` when ``step`` steps (from 1) have changed the weights."""
    real = trainer._average

    def average(done: int) -> None:
        real(done)
        if done + 1 == step:
            act()

    trainer._average = average  # type: ignore[method-assign]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_loss_falls_and_the_iou_rises(make: Make) -> None:
    recipe = Recipe(stages=(Stage(32, 16, 4),), validate_every=4, ema=0.9)
    log = make(recipe=recipe, training=synthetic(12, 0, 32)).run().log
    assert [row["epoch"] for row in log] == [4, 8, 12, 16]
    losses = [row["loss"] for row in log]
    assert losses[-1] < 0.75 * losses[0], losses
    assert log[-1]["validation_iou"] > log[0]["validation_iou"] + 0.1, log
    assert all(math.isfinite(value) for row in log for value in row.values())


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, STEPS])
def test_a_stopped_run_goes_on_exactly(
    make: Make, uninterrupted: TrainingState, step: int
) -> None:
    stopped = make()
    at_step(stopped, step, interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"checkpoint of step {step}, --resume goes on"):
        stopped.run()
    assert stopped.state.step == step == TrainingState.load(stopped.folder).step
    torch.manual_seed(99)  # whatever else drew numbers meanwhile is of no account
    assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_run_stopped_again_and_again_goes_on_exactly(
    make: Make, uninterrupted: TrainingState
) -> None:
    for step in range(1, STEPS + 1):
        trainer = make(resume=step > 1)
        at_step(trainer, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_death_between_checkpoints_loses_only_what_came_after(
    make: Make, uninterrupted: TrainingState
) -> None:
    class Death(BaseException):
        pass

    def die() -> None:
        raise Death

    trainer = make()
    at_step(trainer, 5, die)  # the checkpoint before is that of the first epoch
    with pytest.raises(Death):
        trainer.run()
    assert TrainingState.load(trainer.folder).step == 3
    assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_finished_run_resumes_to_itself(make: Make, uninterrupted: TrainingState) -> None:
    make().run()
    assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_checkpoint_is_there_before_the_first_step(make: Make) -> None:
    trainer = make()
    seen: list[int] = []
    at_step(trainer, 1, lambda: seen.append(TrainingState.load(trainer.folder).step))
    trainer.run()
    assert seen == [0]


def test_a_checkpoint_is_never_older_than_promised(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CHECKPOINT_SECONDS <= 300, "issue 2: at least every five minutes"
    clock = [0.0]
    monkeypatch.setattr(training_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    recipe = Recipe(stages=(Stage(32, 20, 4),), validate_every=20)  # no validation helps
    trainer = make(recipe=recipe)
    saved: list[float] = []
    monkeypatch.setattr(TrainingState, "save", lambda *_: saved.append(clock[0]))
    for step in range(1, 61):
        at_step(trainer, step, lambda: clock.__setitem__(0, clock[0] + 70))
    trainer.run()
    gaps = np.diff(saved)
    assert 60 * 70 - saved[-1] <= CHECKPOINT_SECONDS
    assert gaps.max() <= CHECKPOINT_SECONDS + 70, "older than the interval and one step"
    assert np.median(gaps) > CHECKPOINT_SECONDS, "written far more often than needed"


def test_a_second_interrupt_ends_at_once_with_the_checkpoint_before(make: Make) -> None:
    trainer = make()

    def twice() -> None:
        interrupt()
        interrupt()

    at_step(trainer, 5, twice)
    with pytest.raises(KeyboardInterrupt, match="keeps the checkpoint before"):
        trainer.run()
    assert TrainingState.load(trainer.folder).step == 3


def test_terminate_stops_like_an_interrupt_and_handlers_come_back(make: Make) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    trainer = make()
    at_step(trainer, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt, match="checkpoint of step 2"):
        trainer.run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_best_weights_are_the_averaged_ones_best_on_validation_at_the_last_size(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.9, 0.95, 0.2, 0.6, 0.4])
    seen: list[tuple[int, dict[str, torch.Tensor]]] = []

    def fake_iou(model: EGEUNet, pictures: Pictures) -> float:
        masks = VALIDATION.resized(pictures.images.shape[2]).masks
        assert torch.equal(pictures.masks, masks), "selected on other pictures than validation"
        state = {name: value.clone() for name, value in model.state_dict().items()}
        seen.append((pictures.images.shape[2], state))
        return next(scripted)

    monkeypatch.setattr(training_module, "pooled_iou", fake_iou)
    best: list[float] = []
    trainer = make(
        recipe=replace(TINY, stages=(Stage(32, 2, 4), Stage(64, 3, 4))),
        on_validation=lambda state: best.append(state.best_iou),
    )
    state = trainer.run()
    assert [size for size, _ in seen] == [32, 32, 64, 64, 64]
    assert best == [-1.0, -1.0, 0.2, 0.6, 0.6], "the earlier size counts, or not the best is kept"
    assert_same(state.best, seen[3][1])
    assert [row["validation_iou"] for row in state.log] == [0.9, 0.95, 0.2, 0.6, 0.4]
    assert not torch.equal(state.model["final.weight"], state.averaged["final.weight"])


def test_the_kept_weights_give_the_iou_that_is_reported(
    uninterrupted: TrainingState,
) -> None:
    model = EGEUNet()
    model.load_state_dict(uninterrupted.best)
    assert pooled_iou(model, VALIDATION) == uninterrupted.best_iou


def test_the_average_is_the_recurrence(make: Make) -> None:
    trainer = make(recipe=replace(TINY, ema=0.4))
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
    model, pictures = EGEUNet(), synthetic(11, seed=2, size=32)  # more than a batch of 8
    with torch.inference_mode():
        predicted = model(pictures.images.float() / 255).probability.numpy() >= 0.5
    masks = pictures.masks.numpy()
    wanted = (predicted & masks).sum() / (predicted | masks).sum()
    assert pooled_iou(model, pictures) == pytest.approx(wanted, abs=1e-3)


def test_only_kernels_decay(make: Make) -> None:
    trainer = make()
    kernels, vectors = trainer.optimizer.param_groups
    assert kernels["weight_decay"] == TINY.weight_decay and vectors["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in kernels["params"])
    assert all(p.ndim <= 1 for p in vectors["params"])
    count = len(kernels["params"]) + len(vectors["params"])
    assert count == len(list(trainer.model.parameters()))


def test_a_batch_larger_than_the_data_is_the_data(make: Make) -> None:
    trainer = make(recipe=Recipe(stages=(Stage(32, 2, 50),)))
    assert trainer.run().step == 2


def assert_resume_refused(make: Make, reason: str, **options: Any) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        make(resume=True, **options)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused(make: Make) -> None:
    trainer = make()
    assert_resume_refused(make, "nothing to resume")
    trainer.save()
    assert_resume_refused(make, "follows another recipe", recipe=replace(TINY, seed=1))
    other = replace(TINY, augmentation=replace(TINY.augmentation, rotate=5.0))
    assert_resume_refused(make, "follows another recipe", recipe=other)
    assert_resume_refused(make, "was trained on other data", training=synthetic(12, seed=5))
    assert_resume_refused(make, "was trained on other data", training=synthetic(11, seed=0))
    narrow = EGEUNetConfig(channels=(8, 8, 8, 8, 8, 8))
    assert_resume_refused(make, "is of another network", config=narrow)
    (trainer.folder / FILE_NAME).write_bytes(b"nothing")
    assert_resume_refused(make, "is not a readable training checkpoint")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_with_good_weights_kept(
    make: Make, value: float
) -> None:
    trainer = make()

    def spoil() -> None:
        with torch.no_grad():
            trainer.model.get_parameter("final.bias").fill_(value)

    at_step(trainer, 4, spoil)
    with pytest.raises(InputError, match="at step 4; train anew with a lower learning rate"):
        trainer.run()
    kept = TrainingState.load(trainer.folder)
    assert kept.step == 3
    assert all(torch.isfinite(tensor).all() for tensor in kept.model.values())


def test_an_unwritable_folder_shows_before_the_first_step(make: Make, tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"a file")
    trainer = make()
    at_step(trainer, 1, lambda: pytest.fail("a step was made"))
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
