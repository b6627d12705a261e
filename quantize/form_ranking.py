"""What each part of the int8 form costs: forms that differ in it, fine-tuned briefly, in float.

``python -m egeunet.quantize.form_ranking --data DIR`` prints a table of agreement with the
reference. The first row, a form that computes the same, says what so few steps leave of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from egeunet.model.cli import Parser, command
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.pictures import Pictures
from egeunet.quantize.averaging import average, new_optimizer
from egeunet.quantize.distillation import Distillation
from egeunet.quantize.finetune_networks import Networks
from egeunet.quantize.finetune_pictures import augmented_batch, fitting_samples
from egeunet.quantize.finetune_plan import ATTENTION, GROUP_NORMS, PLANS, Phase
from egeunet.quantize.finetune_validation import Validation
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.taps import TappedNetwork

_RATE, _DECAY, _TRUTH = 1e-3, 0.98, 0.25
_SMALL = ("ebn4", "ebn5", "dbn1", "dbn2", "dbn3")
_LARGE = tuple(name for name in GROUP_NORMS if name not in _SMALL)
_BRIDGES = tuple(f"GAB{level}" for level in range(1, 6))
_LAST = tuple(f"{bridge}.tail_conv.0" for bridge in _BRIDGES)
_EXACT = StaticForm((), gelu="table", dynamic_norms=(*GROUP_NORMS, *ATTENTION, *_BRIDGES))
#: Forms by what is changed.
FORMS: dict[str, StaticForm] = {
    "nothing": _EXACT,
    "constants: the LayerNorms before the GABs' convolutions": replace(
        _EXACT, dynamic_norms=(*GROUP_NORMS, *ATTENTION, *_LAST)
    ),
    "constants: all LayerNorms of the GABs": replace(
        _EXACT, dynamic_norms=(*GROUP_NORMS, *ATTENTION)
    ),
    "constants: the GroupNorms of small maps": replace(
        _EXACT, dynamic_norms=(*_LARGE, *ATTENTION, *_BRIDGES)
    ),
    "ReLU for GELU": replace(_EXACT, gelu="relu"),
    "all of these": replace(_EXACT, gelu="relu", dynamic_norms=(*_LARGE, *ATTENTION)),
    **{f"the form of --plan {name}": PLANS[name].form for name in ("isic2017", "isic2017-int8")},
}


@dataclass(frozen=True)
class FormRow:
    """IoU of a form's masks with the reference's, pooled, 0..1, by part of the pictures."""

    what: str
    mask_iou: dict[str, float]


def rank_forms(
    reference: EGEUNet,
    contract: ModelContract,
    training: Pictures,
    parts: Mapping[str, Pictures],
    forms: Mapping[str, StaticForm],
    steps: int,
    on_done: Callable[[FormRow], None] | None = None,
) -> list[FormRow]:
    """Each form after ``steps`` steps of a cosine, on its averaged weights.

    Args:
        reference, contract: the float network, in eval mode, and its contract.
        training: what is fine-tuned on, at the contract's size.
        parts: name -> pictures to measure on.
        forms: by what they change.
        steps: 1 or more.
        on_done: called after each, for progress.

    Raises:
        InputError: no step.
    """
    if steps < 1:
        raise InputError(f"--steps must be 1 or more, got {steps}")
    reference = copy.deepcopy(reference).eval().requires_grad_(False)
    measures = {name: Validation(reference, contract, part) for name, part in parts.items()}
    rows = []
    for what, form in forms.items():
        network = _fine_tuned(reference, contract, training, form, steps)
        row = FormRow(what, {name: each(network).mask_iou for name, each in measures.items()})
        rows.append(row)
        if on_done:
            on_done(row)
    return rows


def _fine_tuned(
    reference: EGEUNet, contract: ModelContract, training: Pictures, form: StaticForm, steps: int
) -> nn.Module:
    phase = Phase("integer", 1, _RATE)
    plan = replace(PLANS["isic2017"], form=form, mutual=0.0, phases=(phase,), ema=_DECAY)
    samples = fitting_samples(training, contract)
    student = Networks(plan, reference, contract, samples).student(Phase("float", 1, _RATE), None)
    averaged = copy.deepcopy(student).eval()
    loss = Distillation(TappedNetwork(copy.deepcopy(reference)), samples[:8], _TRUTH, plan.maps)
    optimizer, rates = new_optimizer(student, plan.weight_decay), plan.rates(phase)
    student.train()
    for step in range(steps):
        rng = np.random.default_rng([plan.seed, step])
        chosen = rng.choice(training.epoch, plan.batch)
        images, masks = augmented_batch(training, chosen, plan.augmentation, contract, rng)
        for group in optimizer.param_groups:
            group["lr"] = rates.rate(step, steps)
        optimizer.zero_grad()
        loss(student, images, masks).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        average(averaged, student, rates.decay(step))
    return averaged


def table(rows: Sequence[FormRow]) -> str:
    """Markdown, in the given order."""
    names = list(rows[0].mask_iou)
    lines = [f"| change | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    lines += [
        f"| {row.what} | {' | '.join(f'{row.mask_iou[name]:.4f}' for name in names)} |"
        for row in rows
    ]
    return "\n".join(lines)


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="form_ranking", description=__doc__)
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="images and masks")
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument("--steps", type=int, default=300, help="for each form (default: 300)")
    return p


@command("form_ranking")
def main(arguments: Sequence[str] | None = None) -> int:
    """Rank, and print the table."""
    options = parser().parse_args(arguments)
    from egeunet.model.data.cache import load_prepared
    from egeunet.model.data.dataset import hold_out
    from egeunet.model.recipe import LATE
    from egeunet.model.weights import load_weights

    model, contract = load_weights(options.weights)
    data = load_prepared(options.data, contract.height, contract.width)
    train, held_out = hold_out(data.training_ids()[0], 15)
    chosen = {
        "held-out": held_out,
        "held-out, late": tuple(id for id in held_out if id >= LATE),
        "a third of the late training images": tuple(id for id in train if id >= LATE)[::3],
    }
    parts = {name: data.select(ids) for name, ids in chosen.items() if ids}
    training = data.select(train)
    repeats = PLANS["isic2017"].repeats_of(training.ids)
    rows = rank_forms(
        model,
        contract,
        Pictures.from_arrays(training.images, training.masks, repeats),
        {name: Pictures.from_arrays(part.images, part.masks) for name, part in parts.items()},
        FORMS,
        options.steps,
        on_done=lambda row: print(row, flush=True),
    )
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(None))
