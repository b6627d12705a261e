"""Instructions per operator of a .tflite file: parts of a counted run, given their names.

The counted run is cut where XNNPACK begins an operator and wherever control is in LiteRT's
loop over the plan, so that each part holds one operator, or what lies between two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from egeunet.benchmarks.arm64.counts import Interval, Part
from egeunet.benchmarks.arm64.emulator import Cut
from egeunet.benchmarks.arm64.kernel_profile import AddressMap, Row, rows_of
from egeunet.benchmarks.arm64.matching import assign, kernels_in
from egeunet.benchmarks.arm64.plan import Operator, Step, execution_plan
from egeunet.model.errors import InputError

#: XNNPACK comes here once for every operator of its graph.
_OPERATOR_ENTRY = "xnn_run_operator_with_index"
#: LiteRT's loop over the plan, ``tflite::Subgraph::InvokeImpl()``.
_PLAN_LOOP = "_ZN6tflite8Subgraph10InvokeImplEv"
#: Parts of the names of what the loop calls: a delegate's partition; an operator of LiteRT's.
_PARTITION, _OWN_OPERATOR = "14SubgraphInvoke", "_ZN6tflite3ops"
#: The row of what belongs to no operator.
BETWEEN = "between the operators"


@dataclass(frozen=True)
class OperatorRow:
    """Instructions of one operator of the file.

    Attributes:
        name: place, kind and output shape, ``12 CONV_2D 1x64x64x8``.
        kernel: the function with the greatest count in it.
        runs: how many operators XNNPACK made of it; 0: LiteRT's own kernel ran it.
    """

    name: str
    instructions: int
    kernel: str
    runs: int


@dataclass(frozen=True)
class OperatorTable:
    """All operators that ran, in the order of the run, and those that others took in.

    Attributes:
        rows: their instructions add up to the whole count.
        left_out: names of the file's operators that did not run by themselves.
        unnamed: runs whose operator is not known; 0 where names and kernels fit.
    """

    rows: list[OperatorRow]
    left_out: list[str]
    unnamed: int


@dataclass
class _Found:
    """One step as the counted run shows it: XNNPACK's runs, or one part of LiteRT's own."""

    delegated: bool
    parts: list[list[Row]] = field(default_factory=list)


def cut_at_operators(addresses: AddressMap) -> Cut:
    """Where to cut a run for :func:`operator_table`.

    Raises:
        InputError: the runtime has no such functions (it is another one, or stripped).
    """
    entry, loop = addresses.find(_OPERATOR_ENTRY), addresses.find(_PLAN_LOOP)
    if entry is None or loop is None:
        missing = _OPERATOR_ENTRY if entry is None else _PLAN_LOOP
        raise InputError(f"the runtime has no function {missing} to tell operators apart by")
    return Cut(entry[0], *loop)


def operator_table(
    interval: Interval, nodes: list[dict[str, Any]], addresses: AddressMap, cut: Cut
) -> OperatorTable:
    """Name the parts of an interval.

    Args:
        interval: counted with ``cut``.
        nodes: ``operators`` of the guest's report.
        addresses: of the same run.
        cut: from :func:`cut_at_operators`.
    """
    found, between = _steps_in(interval.parts, addresses, cut)
    plan = execution_plan(nodes)
    if plan is None or [s.delegated for s in plan] != [f.delegated for f in found]:
        plan = [Step(step.delegated, ()) for step in found]
    rows: list[OperatorRow] = []
    ran: set[int] = set()
    unnamed = 0
    for step, seen in zip(plan, found, strict=True):
        if not seen.delegated:
            owners: list[int | None] = [0 if step.operators else None]
        else:
            runs = [kernels_in([row.function for row in part]) for part in seen.parts]
            owners = assign(runs, step.operators)
        start = 0
        while start < len(owners):  # neighbours with one owner are one row
            end = start + 1
            while end < len(owners) and owners[end] == owners[start] is not None:
                end += 1
            owner = owners[start]
            operator = None if owner is None else step.operators[owner]
            unnamed += operator is None
            ran |= {operator.index} if operator else set()
            rows.append(_row(operator, seen, start, end))
            start = end
    rows.append(OperatorRow(BETWEEN, between, "", 0))
    left_out = [o.name for step in plan for o in step.operators if o.index not in ran]
    return OperatorTable(rows, left_out, unnamed)


def _row(operator: Operator | None, seen: _Found, start: int, end: int) -> OperatorRow:
    rows = [row for part in seen.parts[start:end] for row in part]
    kernel = max(rows, key=lambda row: row.instructions).function
    name = operator.name if operator else "not told apart"
    total = sum(row.instructions for row in rows)
    return OperatorRow(name, total, kernel, end - start if seen.delegated else 0)


def _steps_in(parts: list[Part], addresses: AddressMap, cut: Cut) -> tuple[list[_Found], int]:
    steps: list[_Found] = []
    between = 0
    for part in parts:
        rows = rows_of(part.blocks, addresses)
        functions = [row.function for row in rows]
        if part.opened_by == cut.address:
            if not steps or not steps[-1].delegated:  # XNNPACK outside of a partition of its own
                steps.append(_Found(True))
            steps[-1].parts.append(rows)
            continue
        if any(name.startswith(_OWN_OPERATOR) for name in functions):
            steps.append(_Found(False, [rows]))
            continue
        if any(_PARTITION in name for name in functions):
            steps.append(_Found(True))
        between += part.instructions
    return steps, between
