"""Single integer operators of an .onnx, and what stays in float32 beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import static_models
from egeunet.export.graph import GraphBuilder
from egeunet.export.onnx import emit_onnx
from egeunet.export.onnx.form import build_onnx_graph
from egeunet.model import ModelContract
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.simulation import simulate
from onnx_int8 import CONTRACT, pixels, recorded, run, stored

pytestmark = pytest.mark.xdist_group("onnx-int8")

Build = Callable[[GraphBuilder], str]


def _random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _three(b: GraphBuilder) -> str:
    return b.sub(b.input, b.constant(np.array([0.3, 0.5, 0.7], np.float32)))


CASES: dict[str, Build] = {
    "conv 3x3": lambda b: b.conv2d(b.input, _random(8, 3, 3, 3), _random(8)),
    "conv 1x1": lambda b: b.conv2d(b.input, _random(5, 1, 1, 3), _random(5)),
    "no bias": lambda b: b.conv2d(b.input, _random(4, 1, 1, 3), np.zeros(4, np.float32)),
    "depthwise": lambda b: b.depthwise_conv2d(b.input, _random(1, 3, 3, 3), _random(3), 2),
    "sub": _three,
    "add": lambda b: b.add(b.input, _three(b)),
    "mul": lambda b: b.mul(_three(b), b.constant(_random(1, 32, 32, 3))),
    "slices": lambda b: b.concat(b.split(_three(b), 3)[::-1]),
    "slice": lambda b: b.slice(_three(b), 1, 2),
    "max-pool": lambda b: b.max_pool(_three(b)),
    "resize": lambda b: b.resize(_three(b), 45, 71),
    "resize of one channel": lambda b: b.resize(b.slice(_three(b), 0, 1), 64, 64),
    "resize of a constant": lambda b: b.mul(
        b.input, b.resize(b.constant(_random(1, 8, 8, 3)), 32, 32)
    ),
    "gelu": lambda b: b.elementwise("gelu", _three(b)),
    "relu": lambda b: b.elementwise("relu", b.conv2d(b.input, _random(4, 1, 1, 3), _random(4))),
    "two activations": lambda b: b.sub(b.input, _three(b)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_operator_agrees_with_the_simulation(case: str, optimize: str) -> None:
    contract = ModelContract(32, 32)
    b = GraphBuilder((1, 32, 32, 3))
    head = CASES[case](b)
    graph = b.finish(b.elementwise("sigmoid", head))
    integers = quantize_int8(graph, recorded(graph, contract), contract, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    image = pixels(1, contract)
    got = run(emit_onnx(integers, contract, "int8", optimize=optimize), stored(image))
    want = simulate(integers, torch.from_numpy(contract.normalize(image))).numpy() * 256
    difference = np.abs(got.transpose(0, 2, 3, 1) - want)
    assert difference.max() <= 2 and (difference > 0.5).mean() <= 0.02, difference.max()


def test_no_lowering() -> None:
    b = GraphBuilder((1, 32, 32, 3))
    graph = b.finish(b.typed(b.mean(b.input, (1, 2)), "int8"))
    with pytest.raises(NotImplementedError, match="'mean' with type int8"):
        emit_onnx(graph, CONTRACT, "int8")


def test_what_a_dynamic_group_norm_reads_stays_float() -> None:
    contract = ModelContract(64, 64)
    graph = build_onnx_graph(static_models.random_network(), contract)
    kept = set(onnx_float_outputs(graph))
    ops = {node.output: node for node in graph.nodes}
    norms = [node for node in graph.nodes if node.op == "group_norm"]
    assert norms
    for node in norms:
        assert node.output in kept and node.inputs[0] in kept
        assert ops[node.inputs[0]].op in ("conv2d", "max_pool")
    trained = set(onnx_float_outputs(graph, trained=True))
    assert trained < kept and {ops[name].op for name in kept - trained} == {"conv2d", "max_pool"}
    integers = Counter(node.op for node in graph.nodes if node.output not in kept)
    assert integers.keys() <= {"conv2d", "depthwise_conv2d", "add", "mul", "concat", "slice",
                               "max_pool", "sigmoid"}  # fmt: skip
    assert integers["conv2d"] > 20 and integers["sigmoid"] == 1


def test_exact_norms_agree_with_the_simulation() -> None:
    contract = ModelContract(64, 64)
    graph = build_onnx_graph(static_models.random_network(), contract)
    integers = quantize_int8(graph, recorded(graph, contract), contract, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    image = pixels(1, contract)
    got = run(emit_onnx(integers, contract, "int8"), stored(image)).transpose(0, 2, 3, 1) / 256
    want = simulate(integers, torch.from_numpy(contract.normalize(image))).numpy()
    assert want.std() > 0.01
    assert np.abs(got - want).mean() <= 4 / 256
