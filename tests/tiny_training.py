"""A training run of nine steps on a dozen synthetic pictures, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.pictures import Pictures
from egeunet.model.recipe import Recipe, Stage
from egeunet.model.training import Trainer

RECIPE = Recipe(stages=(Stage(32, 2, 4), Stage(64, 1, 4)), validate_every=1)
#: Two epochs and one, three steps each.
STEPS = 9


def synthetic(count: int, seed: int, size: int = 64) -> Pictures:
    data = synthetic_dataset(count, size, seed)
    return Pictures.from_arrays(data.images, data.masks)


TRAINING, VALIDATION = synthetic(12, seed=0), synthetic(4, seed=1)


def trainer(
    folder: Path, recipe: Recipe = RECIPE, training: Pictures = TRAINING, **options: Any
) -> Trainer:
    """Not compiled and silent, on one thread of torch."""
    torch.set_num_threads(1)
    return Trainer(recipe, training, VALIDATION, folder, compiled=False, progress=False, **options)


def at_step(run: Trainer, step: int, act: Callable[[], object]) -> None:
    """Call ``act`` when ``step`` steps (from 1) have changed the weights."""
    real = run._average

    def average(done: int) -> None:
        real(done)
        if done + 1 == step:
            act()

    run._average = average  # type: ignore[method-assign]


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
