"""The interpreter of float graphs, on what has no single operator in PyTorch to compare with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egeunet.export.graph import GraphBuilder
from egeunet.export.interpret import activations, run_graph


def test_every_activation_comes_once_and_in_order() -> None:
    b = GraphBuilder((1, 2, 2, 3))
    total = b.add(b.input, b.input)
    graph = b.finish(b.mul(total, b.constant(np.full(3, 2, np.float32))))
    image = torch.ones(1, 2, 2, 3)
    seen = list(activations(graph, image))
    assert [name for name, _ in seen] == [graph.input, total, graph.output]
    assert [float(tensor.max()) for _, tensor in seen] == [1.0, 2.0, 4.0]


def test_a_value_read_late_is_still_there() -> None:
    b = GraphBuilder((1, 2, 2, 3))
    early = b.add(b.input, b.input)
    x = early
    for _ in range(3):
        x = b.add(x, b.input)
    graph = b.finish(b.sub(x, early))
    assert run_graph(graph, torch.ones(1, 2, 2, 3)).unique().tolist() == [3.0]


def test_an_output_in_the_middle() -> None:
    b = GraphBuilder((1, 2, 2, 3))
    middle = b.add(b.input, b.input)
    b.add(middle, b.input)
    assert float(run_graph(b.finish(middle), torch.ones(1, 2, 2, 3)).max()) == 2.0


def test_any_batch() -> None:
    b = GraphBuilder((1, 4, 4, 8))
    norm = b.group_norm(b.input, np.ones(8, np.float32), np.zeros(8, np.float32), 4, 1e-5)
    graph = b.finish(norm)
    images = torch.randn(3, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    each = torch.cat([run_graph(graph, image[None]) for image in images])
    assert torch.allclose(run_graph(graph, images), each, atol=1e-6)


def test_an_integer_operator_is_refused_by_name() -> None:
    b = GraphBuilder((1, 2, 2, 3))
    graph = b.finish(b.add_node("quantize", (b.input,), (1, 2, 2, 3)))
    with pytest.raises(NotImplementedError, match="'quantize'"):
        run_graph(graph, torch.zeros(1, 2, 2, 3))
