"""Plans of a fine-tuning: which make sense, and what the named ones say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from egeunet.model.errors import InputError
from egeunet.quantize import cli_finetune
from egeunet.quantize.cli_quantize import parser
from egeunet.quantize.finetune_plan import PLANS, FinetunePlan, Phase

PHASES = (Phase("norms", 1, 1e-3), Phase("float", 1, 3e-4), Phase("integer", 1, 1e-4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FinetunePlan(phases=()), "end with integer, got -"),
        (lambda: FinetunePlan(phases=(PHASES[2], PHASES[0])), "got integer, norms"),
        (lambda: FinetunePlan(phases=PHASES[:2]), "end with integer, got norms, float"),
        (lambda: FinetunePlan(batch=0), "batch >= 1"),
        (lambda: FinetunePlan(synthetic=-1), "synthetic must lie in 0..10000, got -1"),
        (lambda: FinetunePlan(repeats=0), "repeats must be >= 1, got 0"),
        (lambda: FinetunePlan(pooled=2), "pooled must lie in 0..1, got 2"),
        (lambda: FinetunePlan(truth=-1), "truth must lie in 0..100, got -1"),
        (lambda: FinetunePlan(ema=1.5), "ema"),
        (lambda: Phase.parse("norms:2"), "KIND:EPOCHS:RATE, got 'norms:2'"),
        (lambda: Phase.parse("norm:2:1e-3"), "norms, float, integer, got 'norm'"),
        (lambda: Phase.parse("norms:0:1e-3"), "epochs >= 1"),
        (lambda: Phase.parse("norms:2:2"), "rate in 0..1, got 2 and 2.0"),
    ],
)
def test_a_plan_that_makes_no_sense(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_the_shipped_plan_shows_late_images_more_often() -> None:
    ids = ("ISIC_0000000", "ISIC_0011402", "ISIC_0014000")
    assert PLANS["isic2017"].repeats_of(ids).tolist() == [1, 3, 3]
    assert PLANS["default"].repeats_of(ids).tolist() == [1, 1, 1]


def test_phases_are_parsed() -> None:
    assert Phase.parse("integer:12:2e-4") == Phase("integer", 12, 2e-4)


@pytest.mark.parametrize(
    ("options", "weights"),
    [((), [1.0, 3.0]), (("--mutual", "0"), [0.0, 0.0]), (("--mutual", "2"), [2.0, 2.0])],
)
def test_a_named_plan_is_as_mutual_as_is_asked(
    options: tuple[str, ...], weights: list[float]
) -> None:
    arguments = ("finetune", "--data", "d", "--out", "o.safetensors", "--plan", "isic2017")
    plan = cli_finetune._plan(parser().parse_args([*arguments, *options]))
    assert [plan.mutual_of(phase) for phase in plan.phases] == weights
    assert [plan.truth_of(phase) for phase in plan.phases] == [0.5, 0.25]


def test_a_phase_is_not_mutual_in_a_plan_that_is_not() -> None:
    phases = (Phase("integer", 1, 1e-4, mutual=1.0),)
    with pytest.raises(InputError, match="phase integer is mutual and the plan is not"):
        FinetunePlan(phases=phases)
    with pytest.raises(InputError, match=r"truth must lie in 0\.\.100, got -1"):
        FinetunePlan(phases=(Phase("integer", 1, 1e-4, truth=-1.0),))
