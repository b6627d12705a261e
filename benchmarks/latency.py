"""Latency of several candidates in one run, taking turns so that noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.worker import Turn
from egeunet.benchmarks.worker_process import WorkerProcess
from egeunet.export.runners.runner import Pixels
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Plan:
    """How long latency is measured.

    Attributes:
        runs, seconds: at least so many timed inferences, and so long, of each candidate.
        blocks: files are opened anew for each block, as their place in memory has a share
            in their speed.
        turns: of each candidate in a block.
        warmup: inferences before the first turn.

    Raises:
        InputError: a number below one, or seconds below zero.
    """

    runs: int = 200
    seconds: float = 5.0
    blocks: int = 10
    turns: int = 2
    warmup: int = 10

    def __post_init__(self) -> None:
        for name in ("runs", "blocks", "turns", "warmup"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seconds < float("inf"):
            raise InputError(f"seconds must be 0 or more, got {self.seconds}")

    @property
    def rounds(self) -> int:
        """Turns of each candidate in all."""
        return self.blocks * self.turns

    @property
    def turn_runs(self) -> int:
        """Inferences of one turn at least."""
        return -(-self.runs // self.rounds)

    @property
    def turn_seconds(self) -> float:
        """Length of one turn at least."""
        return self.seconds / self.rounds


FULL = Plan()
QUICK = Plan(runs=50, seconds=1.0, blocks=5, turns=2, warmup=5)


@dataclass
class Timing:
    """The turns of one candidate, in the order in which they ran."""

    plan: Plan
    turns: list[Turn] = field(default_factory=list)

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """Times of all single inferences, in order."""
        return tuple(sample for turn in self.turns for sample in turn.samples_ms)

    @property
    def turn_medians(self) -> NDArray[np.float64]:
        """Median time of each turn in ms, (blocks, turns)."""
        medians = [np.median(turn.samples_ms) for turn in self.turns]
        return np.array(medians).reshape(self.plan.blocks, self.plan.turns)

    def to_dict(self) -> dict[str, Any]:
        """Median, p90, p95, p99 and minimum, and the raw samples."""
        samples = self.samples_ms
        p50, p90, p95, p99 = (float(p) for p in np.percentile(samples, (50, 90, 95, 99)))
        return {
            "median_ms": p50,
            "p90_ms": p90,
            "p95_ms": p95,
            "p99_ms": p99,
            "min_ms": min(samples),
            "samples_ms": [round(sample, 5) for sample in samples],
            "runs": len(samples),
            "warmup": self.plan.warmup,
        }


#: Told before each turn: the candidate's name.
Step = Callable[[str], None]


def measure(
    workers: Mapping[str, WorkerProcess],
    image: Pixels,
    plan: Plan,
    *,
    keep_open: frozenset[str] = frozenset(),
    step: Step = lambda name: None,
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Time all candidates in turns A B C A B C.

    Args:
        workers: by name, each with its file opened.
        image: uint8 (1, H, W, 3) that all of them run on.
        plan: how much of it.
        keep_open: names of those whose opening takes too long to repeat it.

    Returns:
        The timings by name, and for those that failed on the way the reason.
    """
    timings: dict[str, Timing] = {}
    failed: dict[str, str] = {}
    for name, worker in workers.items():
        timings[name] = Timing(plan)
        with _noted(name, failed):
            worker.ask("bind", image)
            worker.ask("turn", plan.warmup, 0.0)
    for number in range(plan.rounds):
        for name, worker in workers.items():
            if name in failed:
                continue
            step(name)
            with _noted(name, failed):
                if number and number % plan.turns == 0 and name not in keep_open:
                    worker.ask("reopen")
                    worker.ask("bind", image)
                turn = worker.ask("turn", plan.turn_runs, plan.turn_seconds)
                timings[name].turns.append(turn)
    return {name: each for name, each in timings.items() if name not in failed}, failed


@contextmanager
def _noted(name: str, failed: dict[str, str]) -> Iterator[None]:
    """A candidate that fails leaves its reason, and the others go on."""
    try:
        yield
    except InputError as error:
        failed[name] = str(error)
