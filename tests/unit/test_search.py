"""The bisection: its answer holds, one group less does not, and few files are made."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.model.errors import GateError, InputError
from egeunet.quantize.search import Step, fewest_kept, table


def measured(drops: list[float]) -> tuple[list[int], object]:
    """A measure that reads the drop of each number of groups from a list."""
    asked: list[int] = []

    def measure(groups: int) -> Step:
        asked.append(groups)
        return Step(groups, 2 * groups, 1000 + groups, drops[groups], 0.9)

    return asked, measure


@settings(deadline=None, max_examples=100)
@given(
    drops=st.lists(st.floats(-1, 7, width=16), min_size=2, max_size=60),
    max_drop=st.floats(0, 3, width=16),
)
def test_what_it_gives_holds_whatever_the_drops(drops: list[float], max_drop: float) -> None:
    asked, measure = measured(drops)
    if min(drops[0], drops[-1]) > max_drop:
        with pytest.raises(GateError, match=f"{min(drops[0], drops[-1]):.3f} is the least"):
            fewest_kept(len(drops) - 1, measure, max_drop)  # type: ignore[arg-type]
        return
    best, steps = fewest_kept(len(drops) - 1, measure, max_drop)  # type: ignore[arg-type]
    assert best.iou_drop <= max_drop and best in steps
    assert best.groups == 0 or drops[best.groups - 1] > max_drop
    assert [step.groups for step in steps] == asked and len(set(asked)) == len(asked)
    assert len(asked) <= 2 + len(drops).bit_length()


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 500), first=st.integers(0, 500))
def test_the_fewest_where_returning_groups_always_helps(count: int, first: int) -> None:
    drops = [float(groups < min(first, count)) for groups in range(count + 1)]
    _, measure = measured(drops)
    assert fewest_kept(count, measure, 0.5)[0].groups == min(first, count)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.1, 101, float("nan")])
def test_a_drop_that_is_none(value: float) -> None:
    asked, measure = measured([1.0, 0.0])
    with pytest.raises(InputError, match="--max-drop must be 0 to 100 points"):
        fewest_kept(1, measure, value)  # type: ignore[arg-type]
    assert not asked


def test_a_step_of_no_number_is_refused_and_the_table_says_all() -> None:
    with pytest.raises(InputError, match="iou_drop of a step must be a finite number"):
        Step(1, 2, 3, float("nan"), 0.5)
    assert table([Step(3, 40, 161_776, 0.25, 0.98)]).splitlines()[2] == (
        "| 3 | 40 | 161,776 | +0.250 | 0.9800 |"
    )
