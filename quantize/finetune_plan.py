"""What a fine-tuning does, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.model.augment import Augmentation
from egeunet.model.errors import InputError
from egeunet.model.recipe import LATE, PASTED, STRONGER, Recipe, Stage
from egeunet.quantize.static_form import StaticForm

#: In this order: the network with static norms, whose statistics are the batch's while it
#: trains; its folded graph in float; that graph as its integer file computes.
KINDS = ("norms", "float", "integer")


@dataclass(frozen=True)
class Phase:
    """A part of the fine-tuning, with a warm-up and a cosine of its own.

    Attributes:
        kind: one of :data:`KINDS`.
        epochs: passes over the training pictures.
        learning_rate: AdamW's peak.
        truth, mutual: other weights than the plan's; None = the plan's.
    """

    kind: str
    epochs: int
    learning_rate: float
    truth: float | None = None
    mutual: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"a phase is one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.epochs < 1 or not 0 < self.learning_rate < 1:
            raise InputError(
                f"phase {self.kind} needs epochs >= 1 and a learning rate in 0..1, got "
                f"{self.epochs} and {self.learning_rate}"
            )

    @classmethod
    def parse(cls, text: str) -> Phase:
        """``KIND:EPOCHS:RATE``, for example ``integer:12:2e-4``."""
        try:
            kind, epochs, rate = text.split(":")
            return cls(kind, int(epochs), float(rate))
        except ValueError as error:
            raise InputError(f"a phase is KIND:EPOCHS:RATE, got {text!r}") from error


@dataclass(frozen=True)
class FinetunePlan:
    """Everything that decides the result, given weights, data and seed.

    Attributes:
        phases: in the order of :data:`KINDS`; the last one is ``integer``.
        form: of the graph.
        batch: pictures a step.
        truth, maps: weights of the loss against the ground truth, and of that against the
            reference's inner maps; the loss against its probabilities counts 1.
        mutual: weight of the loss of the reference against the student, which then learn from
            each other (mutual.py); 0 = the reference stays as it is.
        pooled: part of Dice that is the batch's, see :func:`egeunet.model.losses.bce_dice`.
        ema: decay of the averaged network, which is what is measured and kept.
        warmup, final_rate, weight_decay, seed: as in :class:`egeunet.model.recipe.Recipe`.
        validate_every: epochs between validations; the last of a phase is always one.
        repeat_from, repeats, augmentation: which pictures are seen how often, and how they are
            changed; as in :class:`egeunet.model.recipe.Recipe`.
        synthetic: made-up pictures that an epoch shows beside the given ones.

    Raises:
        InputError: phases in another order, a value out of its range.
    """

    phases: tuple[Phase, ...] = (
        Phase("norms", 16, 2e-3),
        Phase("float", 8, 5e-4),
        Phase("integer", 16, 3e-4),
    )
    form: StaticForm = field(default_factory=StaticForm)
    batch: int = 8
    truth: float = 0.5
    maps: float = 1.0
    mutual: float = 0.0
    pooled: float = 0.0
    ema: float = 0.995
    warmup: float = 0.05
    final_rate: float = 0.01
    weight_decay: float = 1e-4
    seed: int = 0
    validate_every: int = 2
    repeat_from: str = ""
    repeats: int = 1
    synthetic: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        kinds = [phase.kind for phase in self.phases]
        if not kinds or kinds != sorted(kinds, key=KINDS.index) or kinds[-1] != "integer":
            raise InputError(
                f"phases go {', '.join(KINDS)} and end with integer, got {', '.join(kinds) or '-'}"
            )
        weights = [(name, getattr(self, name)) for name in ("truth", "maps", "mutual")]
        for phase in self.phases:
            weights += [("truth", self.truth_of(phase)), ("mutual", self.mutual_of(phase))]
            if self.mutual_of(phase) and not self.mutual:
                raise InputError(f"phase {phase.kind} is mutual and the plan is not")
        for name, weight in weights:
            if not 0 <= weight <= 100:
                raise InputError(f"{name} must lie in 0..100, got {weight}")
        if not 0 <= self.synthetic <= 10_000:
            raise InputError(f"synthetic must lie in 0..10000, got {self.synthetic}")
        for phase in self.phases:
            self.rates(phase)  # checks what both have in common

    def truth_of(self, phase: Phase) -> float:
        """The weight of the loss against the truth in a phase."""
        return self.truth if phase.truth is None else phase.truth

    def mutual_of(self, phase: Phase) -> float:
        """The weight of the reference's loss against the student in a phase."""
        return self.mutual if phase.mutual is None else phase.mutual

    def rates(self, phase: Phase) -> Recipe:
        """The phase's schedule, as a training recipe (its size says nothing)."""
        return Recipe(
            stages=(Stage(32, phase.epochs, self.batch),),
            learning_rate=phase.learning_rate,
            warmup=self.warmup,
            final_rate=self.final_rate,
            weight_decay=self.weight_decay,
            ema=self.ema,
            validate_every=self.validate_every,
            seed=self.seed,
            pooled=self.pooled,
            repeat_from=self.repeat_from,
            repeats=self.repeats,
        )

    def repeats_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """How often an epoch shows each of these pictures, (N,)."""
        return self.rates(self.phases[0]).repeats_of(ids)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "form": self.form.to_dict()}


#: Names of the GroupNorms, and of the modules that are GHPAs.
GROUP_NORMS = tuple(f"{side}bn{number}" for side in "ed" for number in range(1, 6))
ATTENTION = ("encoder4", "encoder5", "encoder6", "decoder1", "decoder2", "decoder3")
#: All but those of the bridges, of which the last ones of the small maps are worth their
#: operators (docs/quantization.md).
_LAST_OF_BRIDGES = tuple(f"GAB{level}.tail_conv.0" for level in (3, 4, 5))
_NORMS_KEPT = (*GROUP_NORMS, *ATTENTION, *_LAST_OF_BRIDGES)

_ISIC2017 = FinetunePlan(
    phases=(Phase("float", 5, 8e-4), Phase("integer", 28, 7e-4, truth=0.25, mutual=3.0)),
    form=StaticForm(
        gelu="table",
        kernel_scales="all-tensor",
        scale_steps=4,
        pointwise_bits=4,
        four_bit_inputs=32,
        dynamic_norms=_NORMS_KEPT,
        rectified_bridges=(1, 2),
        halved_bridge=True,
        brief_norms=True,
    ),
    maps=0.1,
    truth=0.5,
    mutual=1.0,
    pooled=0.5,
    ema=0.999,
    repeat_from=LATE,
    repeats=3,
    synthetic=240,
    augmentation=replace(STRONGER, zoom=(0.75, 1.7), restyle=0.2),
)

_INT8 = replace(
    _ISIC2017,
    phases=(Phase("float", 4, 8e-4, truth=0.25), Phase("integer", 20, 5e-4)),
    form=replace(
        _ISIC2017.form,
        float_pixels=64 * 64,
        hadamard_side=4,
        four_bit_inputs=48,
        dynamic_norms=(*GROUP_NORMS, *ATTENTION, "GAB2", "GAB3", "GAB4", "GAB5"),
        rectified_bridges=(1,),
        brief_norms=False,
    ),
    truth=0.0,
    mutual=0.0,
    augmentation=PASTED,
)

#: Plans by name. ``isic2017`` is phases 5 and 6 of the shipped weights, ``isic2017-int8`` made the
#: recipe of their int8 file and ``isic2017-small`` that of fewest bytes.
PLANS: dict[str, FinetunePlan] = {
    "default": FinetunePlan(),
    "isic2017": _ISIC2017,
    "isic2017-int8": _INT8,
    "isic2017-small": replace(
        _INT8,
        phases=(Phase("float", 8, 1e-3), Phase("integer", 10, 5e-4)),
        form=replace(
            _INT8.form,
            kernel_scales="one",
            four_bit_inputs=16,
            optimize="size",
            dropped_bridges=(5,),
            brief_attention=("encoder6", "decoder1", "decoder2"),
        ),
        truth=0.25,
    ),
}
