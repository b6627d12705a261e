"""A training recipe, as data: what is done in which order, and nothing about how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.model.augment import Augmentation
from egeunet.model.config import STRIDE
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Stage:
    """A part of the training at one resolution."""

    size: int
    epochs: int
    batch: int

    def __post_init__(self) -> None:
        if self.size < STRIDE or self.size % STRIDE:
            raise InputError(f"stage size must be a multiple of {STRIDE}, got {self.size}")
        if self.epochs < 1 or self.batch < 1:
            raise InputError(f"a stage needs epochs >= 1 and batch >= 1, got {self}")

    @classmethod
    def parse(cls, text: str) -> Stage:
        """``SIZExEPOCHSxBATCH``, for example ``128x120x16``."""
        try:
            size, epochs, batch = (int(part) for part in text.split("x"))
        except ValueError as error:
            raise InputError(f"a stage is SIZExEPOCHSxBATCH, got {text!r}") from error
        return cls(size, epochs, batch)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, given data and seed.

    Attributes:
        stages: resolutions in order; the last one is the contract's size.
        learning_rate: peak of AdamW's rate: linear warm-up, then one cosine over all stages.
        warmup: fraction of all steps.
        final_rate: the cosine's end, as a fraction of the peak.
        weight_decay: AdamW's, on matrices and kernels only.
        ema: decay of the averaged weights, which are what is evaluated and kept.
        validate_every: epochs between validations; the last epoch is always one.
        seed: of initial weights, order and augmentation.
        stop: epochs of the last stage after which the run ends, although its cosine goes on: the
            plateau before a recipe that only decays. 0 = run to the end.
        keep_last: the averaged weights that are kept are the last ones, not the best: of a plateau,
            which is not over before a later recipe has brought its rate down.
        pooled: of the loss, see :func:`egeunet.model.losses.bce_dice`.
        repeat_from: pictures whose id is not smaller are shown ``repeats`` times an epoch:
            a source that is rare in the training part and common where the network is used.
    """

    stages: tuple[Stage, ...] = (Stage(128, 120, 16), Stage(256, 36, 8))
    learning_rate: float = 2e-3
    warmup: float = 0.03
    final_rate: float = 0.01
    weight_decay: float = 0.01
    ema: float = 0.999
    validate_every: int = 4
    seed: int = 0
    stop: int = 0
    keep_last: bool = False
    pooled: float = 0.0
    repeat_from: str = ""
    repeats: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("a recipe needs at least one stage")
        if not 0 < self.learning_rate < 1 or not 0 <= self.ema < 1 or not 0 <= self.warmup < 1:
            raise InputError(
                "learning_rate, ema and warmup must lie in 0..1, got "
                f"{self.learning_rate}, {self.ema}, {self.warmup}"
            )
        if not 0 <= self.final_rate <= 1 or not 0 <= self.weight_decay < 1:
            raise InputError(
                "final_rate and weight_decay must lie in 0..1, got "
                f"{self.final_rate}, {self.weight_decay}"
            )
        if self.validate_every < 1:
            raise InputError(f"validate_every must be >= 1, got {self.validate_every}")
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")
        if not 0 <= self.stop <= self.stages[-1].epochs:
            raise InputError(
                f"stop must lie in 0..{self.stages[-1].epochs}, the last stage's epochs, "
                f"got {self.stop}"
            )
        if not 0 <= self.pooled <= 1:
            raise InputError(f"pooled must lie in 0..1, got {self.pooled}")
        if self.repeats < 1:
            raise InputError(f"repeats must be >= 1, got {self.repeats}")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of ``step`` (from 0) out of ``steps``."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step - warm) / max(1, steps - warm)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * cosine)

    def decay(self, step: int) -> float:
        """Of the averaged weights at ``step`` (from 0).

        Short memory at first, so that the average does not start from random weights.
        """
        return min(self.ema, (1 + step) / (10 + step))

    def repeats_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """How often an epoch shows each of these pictures, (N,)."""
        return np.array([self.repeats if i >= self.repeat_from else 1 for i in ids], np.int64)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


#: Where the images with a ruler and ink marks begin: 450 of the paper's 1,500 training images,
#: the last by id. The test part has the ids after them.
LATE = "ISIC_0011402"

#: Of what is tuned on images seen often.
STRONGER = Augmentation(
    zoom=(0.7, 1.5), gain=0.1, brightness=0.15, contrast=0.3, saturation=0.35
)  # fmt: skip
_AT_256 = Recipe(
    stages=(Stage(256, 60, 8),),
    learning_rate=1e-3,
    ema=0.9995,
    validate_every=2,
    seed=1,
    stop=20,
    repeat_from=LATE,
    repeats=3,
    augmentation=STRONGER,
)
#: Widely zoomed, so that small lesions are seen large, and in the colours of other images.
_WIDE = replace(STRONGER, zoom=(0.7, 2.2), restyle=0.3)
#: The same, with large lesions laid into the surroundings of small ones.
PASTED = replace(_WIDE, paste=0.5)
#: Recipes by name: runs one after another, each from the best weights of the one before.
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "isic2017": (
        Recipe(),
        _AT_256,
        replace(_AT_256, stages=(Stage(256, 20, 8),), learning_rate=8e-4, seed=2, stop=0),
        replace(
            _AT_256,
            stages=(Stage(256, 100, 8),),
            learning_rate=1.5e-3,
            seed=3,
            stop=18,
            keep_last=True,
            augmentation=_WIDE,
        ),
    ),
    # Phase 7, from phase 6's weights: docs/training.md.
    "isic2017-pasted": (
        replace(
            _AT_256,
            stages=(Stage(256, 24, 8),),
            learning_rate=8e-4,
            seed=6,
            stop=0,
            pooled=0.5,
            augmentation=PASTED,
        ),
    ),
}
