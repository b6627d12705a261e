"""Runs of several recipes: one after another, resumable between and inside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egeunet.model.checkpoint import TrainingState
from egeunet.model.data.prepared import PreparedData
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.errors import InputError
from egeunet.model.phases import Run
from egeunet.model.recipe import RECIPES, Stage
from egeunet.model.training import Trainer
from egeunet.model.weights import load_weights
from tiny_training import RECIPE, assert_same

SECOND = replace(RECIPE, stages=(Stage(64, 1, 4),), seed=1, repeat_from="synthetic_0006", repeats=2)


@pytest.fixture(scope="module")
def data() -> tuple[PreparedData, PreparedData]:
    torch.set_num_threads(1)
    return synthetic_dataset(12, 64, seed=0), synthetic_dataset(4, 64, seed=1)


def train(run: Run, data: tuple[PreparedData, PreparedData]) -> float:
    return run.train(*data, compiled=False, progress=False)


def test_the_second_recipe_begins_with_the_best_weights_of_the_first(
    tmp_path: Path, data: tuple[PreparedData, PreparedData]
) -> None:
    run = Run(tmp_path / "run", (RECIPE, replace(SECOND, learning_rate=1e-9, final_rate=1.0)))
    train(run, data)
    first = load_weights(tmp_path / "run" / "phase1" / "weights.safetensors")[0].state_dict()
    last = load_weights(run.weights)[0].state_dict()
    difference = max(float((first[name] - last[name]).abs().max()) for name in first)
    assert 0 < difference <= 1e-6, f"a rate of 1e-9 moved a weight by {difference:.3g}"


def test_a_run_stopped_in_its_second_phase_ends_as_if_it_had_not_been(
    tmp_path: Path, data: tuple[PreparedData, PreparedData], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run(tmp_path / "whole", (RECIPE, SECOND))
    train(whole, data)
    real = Trainer._average

    def stops(self: Trainer, step: int) -> None:
        real(self, step)
        if self.recipe == SECOND and step == 1:
            self.stop.make()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_average", stops)
        train(Run(tmp_path / "cut", (RECIPE, SECOND)), data)
    resumed = Run(tmp_path / "cut", (RECIPE, SECOND), resume=True)
    train(resumed, data)
    ours, theirs = (TrainingState.load(run.folders[1]) for run in (resumed, whole))
    assert_same(ours.averaged, theirs.averaged)
    # Six pictures twice and six once, in batches of four.
    assert theirs.step == 18 // 4


def test_folders_and_refusals(tmp_path: Path) -> None:
    assert Run(tmp_path, (RECIPE,)).folders == (tmp_path,)
    with pytest.raises(InputError, match="at least one recipe"):
        Run(tmp_path, ())
    with pytest.raises(InputError, match="nothing to resume"):
        Run(tmp_path, (RECIPE, SECOND), resume=True)
    (tmp_path / "phase1").mkdir()
    (tmp_path / "phase1" / "checkpoint.pt").touch()
    with pytest.raises(InputError, match="holds a run already"):
        Run(tmp_path, (RECIPE, SECOND))


def test_the_named_recipe_shows_the_late_images_more_often() -> None:
    last = RECIPES["isic2017"][-1]
    assert last.repeats_of(["ISIC_0000001", "ISIC_0011402", "ISIC_0013000"]).tolist() == [1, 3, 3]
    assert last.stages[-1].size == 256


def test_a_recipe_that_stops_early_takes_the_steps_of_the_whole_one(
    tmp_path: Path, data: tuple[PreparedData, PreparedData]
) -> None:
    """The same schedule, cut: equal states after as many steps."""
    whole = replace(SECOND, stages=(Stage(64, 2, 4),))
    train(Run(tmp_path / "stopped", (replace(whole, stop=1),)), data)
    stopped = TrainingState.load(tmp_path / "stopped")
    assert stopped.step == 18 // 4
    rates = [whole.rate(step, 8) for step in range(4)]
    assert stopped.optimizer["param_groups"][0]["lr"] == rates[-1] > whole.rate(3, 4)
    with pytest.raises(InputError, match=r"stop must lie in 0\.\.2"):
        replace(whole, stop=3)
