"""What LiteRT runs and in which order, once its delegate has taken its share of the graph.

The delegate's nodes are put together into as few partitions as their inputs allow, so that
the order of execution is not the order of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: What LiteRT calls the nodes that stand for a partition.
_DELEGATE = "DELEGATE"
_ABSENT = -1


@dataclass(frozen=True)
class Operator:
    """One operator of the model file.

    Attributes:
        index: its place in the file.
        kind: the schema's name, ``CONV_2D``.
        inputs, outputs: numbers of tensors.
        shape: of its first output.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """For tables: ``12 CONV_2D 1x64x64x8``."""
        return f"{self.index} {self.kind} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Step:
    """One node of the plan: a partition of the delegate's, or one operator of LiteRT's own."""

    delegated: bool
    operators: tuple[Operator, ...]


def execution_plan(nodes: list[dict[str, Any]]) -> list[Step] | None:
    """The order of execution.

    Args:
        nodes: ``operators`` of the guest's report.

    Returns:
        The steps; None if they do not come out as the partitions that LiteRT made.
    """
    operators = [
        Operator(i, n["name"], tuple(n["inputs"]), tuple(n["outputs"]), tuple(n["shape"]))
        for i, n in enumerate(nodes)
        if n["name"] != _DELEGATE
    ]
    partitions = [_members(n, operators) for n in nodes if n["name"] == _DELEGATE]
    delegated = set().union(*partitions)
    made = {index for operator in operators for index in operator.outputs}
    ready = {_ABSENT, *(i for operator in operators for i in operator.inputs if i not in made)}
    steps: list[Step] = []
    left = operators
    while left:  # LiteRT's PartitionGraphIntoIndependentNodeSubsets
        group: list[Operator] = []
        later: list[Operator] = []
        for operator in left:
            alike = not group or (operator.index in delegated) == (group[0].index in delegated)
            if alike and ready.issuperset(operator.inputs):
                group.append(operator)
                ready.update(operator.outputs)
            else:
                later.append(operator)
        if not group:  # an operator waits for what nobody makes
            return None
        if group[0].index in delegated:
            steps.append(Step(True, tuple(group)))
        else:
            steps += [Step(False, (operator,)) for operator in group]
        left = later
    made_by_us = [{o.index for o in step.operators} for step in steps if step.delegated]
    return steps if made_by_us == partitions else None


def _members(partition: dict[str, Any], operators: list[Operator]) -> set[int]:
    """The operators between a partition's inputs and its outputs."""
    producer = {index: operator for operator in operators for index in operator.outputs}
    given = set(partition["inputs"])
    members: set[int] = set()
    waiting = [index for index in partition["outputs"] if index not in given]
    while waiting:
        operator = producer.get(waiting.pop())
        if operator is not None and operator.index not in members:
            members.add(operator.index)
            waiting += [index for index in operator.inputs if index not in given]
    return members
