"""Accuracy control: how many of the most harmful groups must go back to float32.

Groups are returned in ranked order (sensitivity.py); how many is found by bisection. The
answer's drop is measured, as is that of one group less, which is too large; in between
nothing is assumed but that returning groups helps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from egeunet.model.errors import GateError, InputError


@dataclass(frozen=True)
class Step:
    """One file that the search measured.

    Attributes:
        groups: how many of the ranking were kept in float32.
        operators: the float operators of the file, changes of type not counted.
        bytes: of the file.
        iou_drop: what the pooled IoU with the ground truth loses against the float
            network, in points.
        mask_iou: IoU with the float network's masks, pooled, 0..1.

    Raises:
        InputError: a value that is no finite number.
    """

    groups: int
    operators: int
    bytes: int
    iou_drop: float
    mask_iou: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) not in (int, float) or not math.isfinite(value):
                raise InputError(f"{name} of a step must be a finite number, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


#: Makes the file in which the first so many groups are float32, and measures it.
Measure = Callable[[int], Step]


def fewest_kept(count: int, measure: Measure, max_drop: float) -> tuple[Step, list[Step]]:
    """The step whose drop holds, and all steps in the order they were measured.

    Args:
        count: length of the ranking.
        measure: called for the numbers of groups that bisection asks for, each once.
        max_drop: the largest drop allowed, in points.

    Raises:
        InputError: ``max_drop`` is no number from 0 to 100.
        GateError: it does not hold even with every group in float32.
    """
    check_drop(max_drop)
    steps = [measure(0)]
    if steps[0].iou_drop <= max_drop:
        return steps[0], steps
    steps.append(measure(count))
    best = steps[-1]
    if best.iou_drop > max_drop:
        least = min(steps, key=lambda step: step.iou_drop)
        raise GateError(
            f"a drop of {max_drop:g} points cannot be held: {least.iou_drop:.3f} is the least, "
            f"with {least.groups} of {count} groups in float32; allow more or calibrate better"
        )
    failing = 0
    while best.groups - failing > 1:
        step = measure((failing + best.groups) // 2)
        steps.append(step)
        if step.iou_drop <= max_drop:
            best = step
        else:
            failing = step.groups
    return best, steps


def check_drop(max_drop: float) -> None:
    """Refuse with an :class:`InputError` what is no drop in points, 0 to 100."""
    if not 0 <= max_drop <= 100:
        raise InputError(f"--max-drop must be 0 to 100 points, got {max_drop:g}")


def table(steps: Sequence[Step]) -> str:
    """Markdown, in the order given."""
    lines = [
        "| groups in float32 | operators | bytes | IoU drop | mask IoU |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {step.groups} | {step.operators} | {step.bytes:,} | {step.iou_drop:+.3f} "
        f"| {step.mask_iou:.4f} |"
        for step in steps
    ]
    return "\n".join(lines)
