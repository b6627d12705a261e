"""When a latency is not to be trusted: flags for the reader of a report."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from egeunet.benchmarks.latency import Timing

THROTTLED = "throttled"
TOO_FEW = "too few samples"
OTHER_LOAD = "other load"

#: The last third of the turns may be slower than the first by this share.
_DRIFT = 0.10
#: One thread that waits for nothing has a core for itself.
_LEAST_CPU_SHARE = 0.95
#: Share of the planned time that the samples themselves take at least.
_IN_SAMPLES = 0.9
#: Processes that wanted to run besides ours in the minute before.
_MOST_LOAD = 0.5


@dataclass(frozen=True)
class Machine:
    """What the machine is and what else it did.

    Attributes:
        load: average of the minute before the benchmark, None where the system does not say.
        cores: how many this process may use.
    """

    load: float | None
    cores: int = 1

    @classmethod
    def now(cls) -> Machine:
        """Ask the system."""
        try:
            return cls(os.getloadavg()[0], usable_cores())
        except (AttributeError, OSError):  # Windows has none
            return cls(None, usable_cores())

    def to_dict(self) -> dict[str, float | int | None]:
        """For the report's environment."""
        return {"cores": self.cores, "load_before": self.load}


def usable_cores() -> int:
    """How many cores this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def flags(timing: Timing, threads: int, machine: Machine) -> list[str]:
    """Reasons to doubt a timing; empty where there is none.

    - throttled: the last third of the turns is slower than the first by a tenth
    - too few samples: fewer inferences, or a shorter time, than the plan asks for
    - other load: the machine was busy when the benchmark began, or a candidate of one
      thread was kept off its core
    """
    plan, medians = timing.plan, timing.turn_medians.ravel()
    found = []
    third = max(len(medians) // 3, 1)
    if np.median(medians[-third:]) > (1 + _DRIFT) * np.median(medians[:third]):
        found.append(THROTTLED)
    samples = timing.samples_ms
    # A turn is as long as its samples and the calls of the clock between them.
    if len(samples) < plan.runs or sum(samples) < _IN_SAMPLES * 1000 * plan.seconds:
        found.append(TOO_FEW)
    shares = [turn.cpu_share for turn in timing.turns]
    crowded = threads == 1 and float(np.median(shares)) < _LEAST_CPU_SHARE
    if crowded or (machine.load is not None and machine.load > _MOST_LOAD):
        found.append(OTHER_LOAD)
    return found
