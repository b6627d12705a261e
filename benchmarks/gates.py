"""From measured values to verdicts, by the one table of tolerances: export/gates.toml."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

#: The table of gates that hold whatever the precision.
_EVERY = "every"
#: Gates that are least values; all others are greatest ones.
_LEAST = ("mask_agreement", "mask_iou")
#: Gates that ask for true masks of the images that the weights are for.
_AGAINST_TRUTH = ("iou_drop_points",)


@dataclass(frozen=True)
class Verdict:
    """A measured value beside its gate.

    Attributes:
        name: of the value, as in ``accuracy`` of a row.
        value: what was measured; None where it could not be, which passes no gate.
        limit: the gate.
        kind: ``min`` or ``max``: which way the limit holds.
        passed: whether it does.
        reason: why the limit is where it is.
    """

    name: str
    value: float | None
    limit: float
    kind: str
    passed: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def verdicts(
    precision: str | None, accuracy: Mapping[str, Any], *, synthetic: bool = False
) -> list[Verdict]:
    """The verdicts on one row.

    Args:
        precision: name of a table; of another or an unknown one only the gates that hold
            for every file are asked.
        accuracy: measured values by name.
        synthetic: images and truth are made up: only parity with the reference is judged
            (a file that is off by some pixels loses or gains IoU by chance there), by the
            limits for such images.
    """
    table = bench_gates()
    gates = {**table[_EVERY], **table.get(precision or "", {})}
    found = []
    for name, gate in gates.items():
        if synthetic and name in _AGAINST_TRUTH:
            continue
        limit = gate.get("synthetic", gate["limit"]) if synthetic else gate["limit"]
        found.append(_verdict(name, accuracy[name], limit, gate["reason"]))
    return found


@cache
def bench_gates() -> dict[str, dict[str, dict[str, Any]]]:
    """Limit and reason by precision and name, from gates.toml."""
    text = (resources.files("egeunet.export") / "gates.toml").read_text()
    table: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(text)["bench"]
    return table


def _verdict(name: str, value: float | None, limit: float, reason: str) -> Verdict:
    if value is not None and not math.isfinite(value):
        value = None  # no JSON number
    kind = "min" if name in _LEAST else "max"
    holds = value is not None and (value >= limit if kind == "min" else value <= limit)
    return Verdict(name, value, limit, kind, holds, reason)
