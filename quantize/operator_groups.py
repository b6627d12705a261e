"""Operators of a graph by name: those of a scope together, or each on its own.

A scope's name is the reference module that its operators came from (``GAB1``,
``encoder4/layer_norm``); an operator's is ``SCOPE:OPERATOR:VALUE``, with the name of the value
that it makes, which is fixed by the graph's structure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from egeunet.export.graph import Graph
from egeunet.model.errors import InputError

LEVELS = ("scope", "operator")


def operator_groups(
    graph: Graph, level: str = "scope", scopes: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Names of groups -> the outputs of their nodes, in execution order.

    Args:
        graph: any.
        level: one of :data:`LEVELS`.
        scopes: only what lies in these; empty = everything.

    Raises:
        InputError: an unknown level or scope.
    """
    if level not in LEVELS:
        raise InputError(f"--by must be {' or '.join(LEVELS)}, got {level!r}")
    known = dict.fromkeys(node.scope for node in graph.nodes)
    for scope in scopes:
        if scope not in known:
            raise InputError(f"no scope {scope!r} in this graph; it has {', '.join(sorted(known))}")
    groups: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if scopes and node.scope not in scopes:
            continue
        name = node.scope if level == "scope" else f"{node.scope}:{node.op}:{node.output}"
        groups[name] = (*groups.get(name, ()), node.output)
    return groups


def outputs_of(graph: Graph, names: Iterable[str]) -> tuple[str, ...]:
    """The outputs of all nodes that some names stand for.

    Args:
        graph: the one that the names are of.
        names: of scopes and of single operators, mixed.

    Raises:
        InputError: a name that the graph lacks.
    """
    known = {**operator_groups(graph), **operator_groups(graph, "operator")}
    names = list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"no operators {unknown[0]!r} in this graph ({len(unknown)} of {len(names)} names "
            "unknown)"
        )
    return tuple(dict.fromkeys(output for name in names for output in known[name]))
