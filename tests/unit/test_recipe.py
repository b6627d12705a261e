"""The recipe: its schedule, its stages, and every value it refuses."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.model.errors import InputError
from egeunet.model.recipe import Recipe, Stage


def test_warm_up_is_linear_and_the_cosine_ends_at_the_final_rate() -> None:
    recipe = Recipe(learning_rate=0.01, warmup=0.1, final_rate=0.05)
    rates = [recipe.rate(step, 1000) for step in range(1001)]
    assert rates[:100] == pytest.approx([0.01 * (step + 1) / 100 for step in range(100)])
    assert max(rates) == rates[99] == rates[100] == pytest.approx(0.01)
    assert rates[550] == pytest.approx(0.01 * (0.05 + 0.95 / 2))  # half-way down
    assert rates[1000] == pytest.approx(0.01 * 0.05)
    assert rates[999] == pytest.approx(rates[1000], rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.floats(1e-5, 0.5), st.floats(0, 0.99), st.floats(0, 1), st.data())
def test_the_rate_rises_then_falls_and_stays_in_range(
    steps: int, peak: float, warmup: float, final: float, data: st.DataObject
) -> None:
    recipe = Recipe(learning_rate=peak, warmup=warmup, final_rate=final)
    rates = [recipe.rate(step, steps) for step in range(steps)]
    top = max(1, round(warmup * steps)) - 1
    slack = 1e-12
    assert all(a <= b + slack for a, b in pairwise(rates[: top + 1]))
    assert all(a + slack >= b for a, b in pairwise(rates[top:]))
    step = data.draw(st.integers(0, steps - 1))
    assert 0 < rates[step] <= peak + slack or final == 0
    assert step < top or rates[step] >= peak * final - slack


@pytest.mark.parametrize(
    ("text", "stage"), [("128x120x16", Stage(128, 120, 16)), ("32x1x1", Stage(32, 1, 1))]
)
def test_stages_are_read(text: str, stage: Stage) -> None:
    assert Stage.parse(text) == stage


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "a stage is SIZExEPOCHSxBATCH, got ''"),
        ("128", "a stage is SIZExEPOCHSxBATCH, got '128'"),
        ("128x120", "a stage is SIZExEPOCHSxBATCH"),
        ("128x120x16x2", "a stage is SIZExEPOCHSxBATCH"),
        ("128x1.5x16", "a stage is SIZExEPOCHSxBATCH"),
        ("axbxc", "a stage is SIZExEPOCHSxBATCH"),
        ("250x1x1", "stage size must be a multiple of 32, got 250"),
        ("0x1x1", "stage size must be a multiple of 32, got 0"),
        ("-32x1x1", "stage size must be a multiple of 32, got -32"),
        ("32x0x1", "epochs >= 1 and batch >= 1"),
        ("32x1x-1", "epochs >= 1 and batch >= 1"),
    ],
)
def test_bad_stages_are_named(text: str, seen: str) -> None:
    with pytest.raises(InputError, match=seen):
        Stage.parse(text)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=20))
def test_any_text_is_a_stage_or_an_input_error(text: str) -> None:
    try:
        stage = Stage.parse(text)
    except InputError:
        return
    assert stage.size % 32 == 0 and stage.epochs >= 1 and stage.batch >= 1


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"stages": ()}, "at least one stage"),
        ({"learning_rate": 0.0}, "learning_rate, ema and warmup must lie in 0..1, got 0.0"),
        ({"learning_rate": -1e-3}, "learning_rate, ema and warmup"),
        ({"learning_rate": math.nan}, "learning_rate, ema and warmup"),
        ({"ema": 1.0}, "learning_rate, ema and warmup"),
        ({"warmup": 1.0}, "learning_rate, ema and warmup"),
        ({"final_rate": 1.5}, "final_rate and weight_decay must lie in 0..1, got 1.5"),
        ({"weight_decay": -0.1}, "final_rate and weight_decay"),
        ({"validate_every": 0}, "validate_every must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"pooled": 1.5}, r"pooled must lie in 0\.\.1, got 1\.5"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], seen: str) -> None:
    with pytest.raises(InputError, match=seen):
        Recipe(**values)


def test_a_recipe_is_json() -> None:
    values = json.loads(json.dumps(Recipe().to_dict()))
    assert values["stages"][0] == {"size": 128, "epochs": 120, "batch": 16}
    assert values["augmentation"]["rotate"] == 180.0
