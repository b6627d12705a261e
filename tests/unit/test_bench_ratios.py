"""Ratios with intervals, validity flags and the plan of a latency measurement, on made-up times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.benchmarks.latency import FULL, QUICK, Plan, Timing
from egeunet.benchmarks.ratios import ratio
from egeunet.benchmarks.validity import (
    OTHER_LOAD,
    THROTTLED,
    TOO_FEW,
    Machine,
    flags,
)
from egeunet.benchmarks.worker import Turn
from egeunet.model.errors import InputError

IDLE = Machine(0.1)


def simulated(
    generator: np.random.Generator, plan: Plan, speed: float = 1.0, block: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Turns of a candidate and of its baseline, (blocks, turns) each: noise of 2 %, a machine
    that drifts, and another place in memory in each block."""
    shape = (plan.blocks, plan.turns)
    drift = np.cumsum(generator.normal(0, 0.01, 2 * plan.rounds)).reshape(*shape, 2)
    times = []
    for side, mean in ((0, 8.0 * speed), (1, 8.0)):
        place = generator.normal(0, block, (plan.blocks, 1))
        noise = generator.normal(0, 0.02, shape)
        times.append(mean * np.exp(place + noise + drift[..., side]))
    return times[0], times[1]


@pytest.mark.parametrize("plan", [FULL, QUICK])
@pytest.mark.parametrize("block", [0.0, 0.01, 0.02])
def test_the_same_artefact_twice_is_1_within_its_interval(plan: Plan, block: float) -> None:
    generator = np.random.default_rng(1)
    tries = [ratio(*simulated(generator, plan, block=block), seed=i) for i in range(100)]
    assert sum(each.low <= 1.0 <= each.high for each in tries) >= 90
    assert np.median([each.high - each.low for each in tries]) < 0.09


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_a_difference_of_a_tenth_is_seen(plan: Plan) -> None:
    generator = np.random.default_rng(2)
    tries = [ratio(*simulated(generator, plan, speed=1.10), seed=i) for i in range(50)]
    assert sum(each.low > 1.0 for each in tries) >= 48
    assert np.mean([each.median for each in tries]) == pytest.approx(1.10, abs=0.01)


def test_noise_that_hits_both_does_not_count() -> None:
    baseline = np.array([[8.0, 30.0], [9.0, 80.0]])
    result = ratio(2 * baseline, baseline)
    assert (result.median, result.low, result.high) == (2.0, 2.0, 2.0)
    assert result.to_dict("a|torch|1")["baseline"] == "a|torch|1"


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_interval_holds_the_median_and_lies_among_the_ratios(b: int, t: int, seed: int) -> None:
    candidate, baseline = np.random.default_rng(seed).uniform(1, 9, (2, b, t))
    result = ratio(candidate, baseline, seed)
    ratios = candidate / baseline
    assert ratios.min() <= result.low <= result.median <= result.high <= ratios.max()


def test_turns_that_do_not_match_are_refused() -> None:
    with pytest.raises(InputError, match=r"turns of \(2, 2\) beside \(2, 3\)"):
        ratio(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(InputError, match="took no time"):
        ratio(np.ones((2, 2)), np.zeros((2, 2)))


def timing(plan: Plan, turns: list[tuple[list[float], float]]) -> Timing:
    """Turns of (times in ms, CPU share)."""
    return Timing(plan, [Turn(tuple(samples), share) for samples, share in turns])


SMALL = Plan(runs=12, seconds=0.1, blocks=3, turns=2, warmup=1)


def test_percentiles_are_of_all_samples() -> None:
    result = timing(SMALL, [([float(k), float(k + 6)], 1.0) for k in range(1, 7)]).to_dict()
    samples = [1.0, 7.0, 2.0, 8.0, 3.0, 9.0, 4.0, 10.0, 5.0, 11.0, 6.0, 12.0]
    assert result["samples_ms"] == samples
    for name, percent in (("median_ms", 50), ("p90_ms", 90), ("p95_ms", 95), ("p99_ms", 99)):
        assert result[name] == np.percentile(samples, percent)
    assert (result["min_ms"], result["runs"], result["warmup"]) == (1.0, 12, 1)


def test_a_steady_timing_has_no_flag() -> None:
    assert flags(timing(SMALL, [([9.0, 9.1], 0.99)] * 6), 1, IDLE) == []


def test_a_timing_that_slows_down_is_throttled() -> None:
    slower = [([9.0 + k, 9.0 + k], 1.0) for k in range(6)]
    assert flags(timing(SMALL, slower), 1, IDLE) == [THROTTLED]
    assert flags(timing(SMALL, slower[::-1]), 1, IDLE) == []  # it warmed up


def test_too_few_samples_are_said() -> None:
    assert flags(timing(SMALL, [([30.0], 1.0)] * 6), 1, IDLE) == [TOO_FEW]
    assert flags(timing(SMALL, [([3.0, 3.0], 1.0)] * 6), 1, IDLE) == [TOO_FEW]  # too short


@pytest.mark.parametrize(
    ("share", "threads", "load", "expected"),
    [
        (0.7, 1, 0.0, [OTHER_LOAD]),  # something else had the core
        (0.7, 2, 0.0, []),  # two threads wait for one another
        (1.0, 1, 3.0, [OTHER_LOAD]),
        (1.0, 1, None, []),
    ],
)
def test_other_load_is_seen(
    share: float, threads: int, load: float | None, expected: list[str]
) -> None:
    steady = timing(SMALL, [([9.0, 9.0], share)] * 6)
    assert flags(steady, threads, Machine(load)) == expected


def test_plans_measure_as_much_as_they_promise() -> None:
    for plan, runs, seconds in ((FULL, 200, 5.0), (QUICK, 50, 1.0)):
        assert plan.turn_runs * plan.rounds >= runs
        assert plan.turn_seconds * plan.rounds == pytest.approx(seconds)
    assert Plan(runs=7, blocks=2, turns=2).turn_runs == 2


@pytest.mark.parametrize("name", ["runs", "blocks", "turns", "warmup"])
def test_a_plan_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        Plan(**{name: 0})
    with pytest.raises(InputError, match="seconds must be 0 or more, got -1"):
        Plan(seconds=-1)
