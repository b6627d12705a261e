"""Means over a large map in two steps, as export/lean.py takes them."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import exactness
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import ModelContract

graph_of, assert_equal, noise = exactness.graph_of, exactness.assert_equal, exactness.noise


@pytest.mark.parametrize(("shape", "steps"), [((63, 65), 1), ((64, 64), 2), ((32, 256), 2)])
def test_means_in_two_steps(shape: tuple[int, int], steps: int) -> None:
    graph = graph_of((*shape, 3), lambda t, x: t.average(x))
    assert graph.operators() == {"mean": steps}
    assert_equal(graph, noise(*shape, 3) + 1, lambda x: x.mean((2, 3), keepdim=True))


def test_means_in_two_steps_keep_the_digits_in_litert() -> None:
    """LiteRT's MEAN of 65,536 equal numbers is off in the fourth digit."""
    values = np.linspace(0.1, 0.9, 8, dtype=np.float32)
    image = np.broadcast_to(values, (1, 256, 256, 8))
    lost = {}
    for name, build in {
        "one": lambda t, x: t.b.mean(x, (1, 2)), "two": lambda t, x: t.average(x)
    }.items():  # fmt: skip
        data = emit_tflite(graph_of((256, 256, 8), build), ModelContract(), "none")
        runtime = Interpreter(model_content=data, num_threads=1)
        runtime.allocate_tensors()
        runtime.set_tensor(runtime.get_input_details()[0]["index"], image)
        runtime.invoke()
        got = runtime.get_tensor(runtime.get_output_details()[0]["index"])
        lost[name] = float(np.abs(got / values - 1).max())
    print(lost)
    assert lost["two"] <= 2e-5 and lost["two"] < lost["one"] / 10
