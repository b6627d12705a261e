"""Passes: copying changes nothing, a translation replaces its operator and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from egeunet.export.graph import Graph, GraphBuilder, Node, Quantization
from egeunet.export.interpret import run_graph
from egeunet.export.rewrite import rewrite


def small_graph() -> Graph:
    b = GraphBuilder((1, 4, 4, 6))
    shared = b.constant(np.arange(6, dtype=np.float32))
    b.scope = "first"
    x = b.mul(b.add(b.input, shared), shared)
    b.scope = "second"
    return b.finish(b.concat([b.slice(x, 0, 2), b.elementwise("gelu", x), b.slice(x, 2, 4)]))


def same_result(a: Graph, b: Graph) -> bool:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32))
    return torch.equal(run_graph(a, image), run_graph(b, image))


def test_a_copy_is_equal() -> None:
    graph = small_graph()
    copy = rewrite(graph, {})
    assert copy.operators() == graph.operators()
    assert [(n.op, n.attributes, n.scope) for n in copy.nodes] == [
        (n.op, n.attributes, n.scope) for n in graph.nodes
    ]
    assert copy.weight_bytes() == graph.weight_bytes() == 24  # still one constant
    assert same_result(copy, graph)


def test_a_translation_replaces_its_operator_only() -> None:
    def doubled(b: GraphBuilder, node: Node, inputs: list[str]) -> str:
        assert node.scope == b.scope == "first"
        return b.add(b.mul(*inputs), b.mul(*inputs))

    graph = small_graph()
    changed = rewrite(graph, {"mul": doubled})
    assert changed.operators() == {**graph.operators(), "add": 2, "mul": 2}
    assert not same_result(changed, graph)
    before = [v.copy() for v in (value.data for value in graph.constants()) if v is not None]
    assert np.array_equal(before[0], np.arange(6))  # the old graph is as it was


def test_constants_keep_their_quantization() -> None:
    graph = small_graph()
    (constant,) = graph.constants()
    scale = Quantization.per_tensor(0.5, 1)
    graph.values[constant.name] = replace(constant, quantization=scale)
    (copied,) = rewrite(graph, {}).constants()
    assert copied.quantization == scale
