"""A stopped run goes on exactly, and never loses more than its last minutes."""

from __future__ import annotations

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
import tiny_training as tiny
from egeunet.model import EGEUNetConfig
from egeunet.model.checkpoint import FILE_NAME, TrainingState
from egeunet.model.errors import InputError
from egeunet.model.recipe import Recipe, Stage
from egeunet.model.training import CHECKPOINT_SECONDS, Trainer

#: One worker runs all: the finished run is made once.
pytestmark = pytest.mark.xdist_group("resume")


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


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_stopped_run_goes_on_exactly(make: Make, uninterrupted: TrainingState, step: int) -> None:
    stopped = make()
    tiny.at_step(stopped, step, interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"checkpoint of step {step}, --resume goes on"):
        stopped.run()
    assert stopped.state.step == step == TrainingState.load(stopped.folder).step
    torch.manual_seed(99)  # whatever else drew numbers meanwhile is of no account
    tiny.assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_run_stopped_again_and_again_goes_on_exactly(
    make: Make, uninterrupted: TrainingState
) -> None:
    for step in range(1, tiny.STEPS + 1):
        trainer = make(resume=step > 1)
        tiny.at_step(trainer, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    tiny.assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_death_between_checkpoints_loses_only_what_came_after(
    make: Make, uninterrupted: TrainingState
) -> None:
    class Death(BaseException):
        pass

    def die() -> None:
        raise Death

    trainer = make()
    tiny.at_step(trainer, 5, die)  # the checkpoint before is that of the first epoch
    with pytest.raises(Death):
        trainer.run()
    assert TrainingState.load(trainer.folder).step == 3
    tiny.assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_finished_run_resumes_to_itself(make: Make, uninterrupted: TrainingState) -> None:
    make().run()
    tiny.assert_same(vars(make(resume=True).run()), vars(uninterrupted))


def test_a_checkpoint_is_there_before_the_first_step(make: Make) -> None:
    trainer = make()
    seen: list[int] = []
    tiny.at_step(trainer, 1, lambda: seen.append(TrainingState.load(trainer.folder).step))
    trainer.run()
    assert seen == [0]


def test_a_checkpoint_is_never_older_than_promised(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CHECKPOINT_SECONDS <= 300, "issue 2: at least every five minutes"
    clock, per_step = [0.0], 70.0
    monkeypatch.setattr(training_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    recipe = Recipe(stages=(Stage(32, 8, 4),), validate_every=8)  # no validation helps
    trainer = make(recipe=recipe)
    saved: list[float] = []
    monkeypatch.setattr(TrainingState, "save", lambda *_: saved.append(clock[0]))
    real = trainer._average

    def average(step: int) -> None:
        real(step)
        clock[0] += per_step

    trainer._average = average  # type: ignore[method-assign]
    trainer.run()
    gaps = np.diff(saved)
    assert clock[0] == 24 * per_step and saved[-1] == clock[0]
    assert gaps.max() <= CHECKPOINT_SECONDS + per_step, "older than the interval and one step"
    assert np.median(gaps) > CHECKPOINT_SECONDS, "written far more often than needed"


def test_a_second_interrupt_ends_at_once_with_the_checkpoint_before(make: Make) -> None:
    trainer = make()

    def twice() -> None:
        interrupt()
        interrupt()

    tiny.at_step(trainer, 5, twice)
    with pytest.raises(KeyboardInterrupt, match="keeps the checkpoint before"):
        trainer.run()
    assert TrainingState.load(trainer.folder).step == 3


def test_terminate_stops_like_an_interrupt_and_handlers_come_back(make: Make) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    trainer = make()
    tiny.at_step(trainer, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt, match="checkpoint of step 2"):
        trainer.run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def assert_resume_refused(make: Make, reason: str, **options: Any) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        make(resume=True, **options)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused(make: Make) -> None:
    trainer = make()
    assert_resume_refused(make, "nothing to resume")
    trainer.save()
    assert_resume_refused(make, "follows another recipe", recipe=replace(tiny.RECIPE, seed=1))
    other = replace(tiny.RECIPE, augmentation=replace(tiny.RECIPE.augmentation, rotate=5.0))
    assert_resume_refused(make, "follows another recipe", recipe=other)
    assert_resume_refused(make, "was trained on other data", training=tiny.synthetic(12, seed=5))
    assert_resume_refused(make, "was trained on other data", training=tiny.synthetic(11, seed=0))
    narrow = EGEUNetConfig(channels=(8, 8, 8, 8, 8, 8))
    assert_resume_refused(make, "is of another network", config=narrow)
    (trainer.folder / FILE_NAME).write_bytes(b"nothing")
    assert_resume_refused(make, "is not a readable training checkpoint")
