"""Names of scopes and of single operators."""

from __future__ import annotations

import numpy as np
import pytest

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.model.errors import InputError
from egeunet.quantize.operator_groups import operator_groups, outputs_of


def graph() -> Graph:
    b = GraphBuilder((1, 32, 32, 3))
    one = b.constant(np.ones(1, np.float32))
    b.scope = "a"
    x = b.add(b.input, one)
    b.scope = "a/norm"
    x = b.mul(x, one)
    b.scope = "a"
    return b.finish(b.elementwise("sigmoid", x))


def test_groups_hold_every_operator_once() -> None:
    source = graph()
    first, middle, last = (node.output for node in source.nodes)
    assert operator_groups(source) == {"a": (first, last), "a/norm": (middle,)}
    single = operator_groups(source, "operator")
    assert single == {
        f"a:add:{first}": (first,), f"a/norm:mul:{middle}": (middle,), f"a:sigmoid:{last}": (last,)
    }  # fmt: skip
    assert list(operator_groups(source, "operator", ["a/norm"])) == [f"a/norm:mul:{middle}"]


def test_names_lead_back_to_outputs_mixed_and_once() -> None:
    source = graph()
    first, middle, last = (node.output for node in source.nodes)
    assert outputs_of(source, ["a", f"a:add:{first}"]) == (first, last)
    assert outputs_of(source, [f"a/norm:mul:{middle}"]) == (middle,)
    assert outputs_of(source, []) == ()


def test_refused() -> None:
    with pytest.raises(InputError, match=r"no scope 'b' in this graph; it has a, a/norm"):
        operator_groups(graph(), scopes=["b"])
    with pytest.raises(InputError, match="--by must be scope or operator, got 'layer'"):
        operator_groups(graph(), "layer")
    with pytest.raises(InputError, match=r"no operators 'b'.*\(1 of 2 names unknown\)"):
        outputs_of(graph(), ["a", "b"])
