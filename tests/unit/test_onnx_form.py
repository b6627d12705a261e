"""The deploy form for ONNX Runtime: equal to the reference, and what its rewrites leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import exactness
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.interpret import run_graph
from egeunet.export.onnx import emit_onnx
from egeunet.export.onnx.form import OnnxTranslator, build_onnx_graph
from egeunet.export.onnx.resizes import joined_resizes
from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract
from egeunet.model.layers import GHPA
from exactness import assert_equal, double, in_float64, noise, randomized

SMALL = ModelContract(64, 96)
pytestmark = pytest.mark.xdist_group("onnx")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "no bridge": {"bridge": False},
    "no deep supervision": {"deep_supervision": False},
    "no mask": {"bridge_mask": False},
    "no dilation": {"dilated": False},
    "depthwise": {"attention": "depthwise"},
    "convolution": {"attention": "convolution"},
    "narrow": {"channels": (4, 8, 12, 20, 24, 28)},
    "two classes": {"num_classes": 2},
}


def network(**changes: Any) -> EGEUNet:
    """Initial weights, but norms of both signs and biases that are not zero."""
    torch.manual_seed(5)
    model = EGEUNet(EGEUNetConfig(**changes)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0, 0.5 if name.endswith("bias") else 1.0)
    model.final.weight /= 8  # or else all probabilities are 0 or 1, whatever was rewritten
    return model


def run(data: bytes, image_nhwc: Tensor) -> Tensor:
    """Through ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    image = image_nhwc.permute(0, 3, 1, 2).contiguous().numpy()
    return torch.from_numpy(session.run(None, {"image": image})[0]).permute(0, 2, 3, 1)


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_architecture_in_float64(changes: dict[str, Any], optimize: str) -> None:
    """128 x 160 has maps above and below the size whose moments are taken."""
    model, shape = network(**changes), (128, 160)
    graph = build_onnx_graph(model, ModelContract(*shape), optimize, batch=2)
    image = torch.rand(2, *shape, 3, generator=torch.Generator().manual_seed(0)).double()
    want = double(model)(image.permute(0, 3, 1, 2)).probability.permute(0, 2, 3, 1)
    difference = (run_graph(in_float64(graph), image) - want).abs().max()
    assert float(difference) <= 4e-6, float(difference)


def test_the_file_is_the_graph() -> None:
    """One image and three, whose norms are written in two ways."""
    contract = ModelContract(128, 160)
    images = torch.rand(3, 128, 160, 3, generator=torch.Generator().manual_seed(0))
    for batch in (1, 3):
        graph = build_onnx_graph(network(), contract, batch=batch)
        assert ("affine" in graph.operators()) == (batch == 1)
        want = run_graph(graph, images[:batch])
        got = run(emit_onnx(graph, contract), images[:batch])
        assert float((got - want).abs().max()) <= 1e-4


@pytest.mark.parametrize("gamma", exactness.GAMMAS.values(), ids=exactness.GAMMAS)
@pytest.mark.parametrize(
    ("make", "side"),
    [
        (lambda: nn.Conv2d(4, 8, 3, padding=1), 8),
        (lambda: nn.Conv2d(4, 8, 3, padding=1), 64),
        (lambda: GHPA(4, 8), 8),
    ],
    ids=["small", "large", "GHPA"],
)
def test_bias_behind_the_moments(make: Any, gamma: list[float], side: int) -> None:
    """A convolution's bias goes into the norm behind it, on maps whose moments are taken."""
    block, norm = randomized(make(), gamma), randomized(nn.GroupNorm(4, 8), gamma)
    b = GraphBuilder((1, side, side, 4))
    graph = b.finish(OnnxTranslator(b, "speed").down(block, norm, b.input))
    exact = double(nn.Sequential(block, norm, nn.MaxPool2d(2), nn.GELU()))
    assert_equal(graph, noise(side, side, 4), exact)
    taken = side == 64
    assert ("group_norm" in graph.operators()) == (not taken)
    if taken:
        bias = graph.values[graph.nodes[0].inputs[2]].data
        assert bias is not None and not bias.any() and block.bias.abs().min() > 0


def test_a_bias_of_zeros_is_not_written() -> None:
    for bias, inputs in ((0.0, 2), (0.5, 3)):
        b = GraphBuilder((1, 4, 4, 3))
        kernel = np.ones((2, 1, 1, 3), np.float32)
        graph = b.finish(b.conv2d(b.input, kernel, np.full(2, bias, np.float32)))
        (node,) = onnx.load_from_string(emit_onnx(graph, SMALL)).graph.node
        assert len(node.input) == inputs


@settings(deadline=None, max_examples=15)
@given(channels=st.lists(st.integers(1, 4), min_size=2, max_size=4), chain=st.booleans())
def test_joined_resizes(channels: list[int], chain: bool) -> None:
    """Any number of maps; where each depends on the last resize, none can be joined."""
    b = GraphBuilder((1, 4, 3, 5))
    results, source = [], b.input
    for index, count in enumerate(channels):
        kernel = np.random.default_rng(index).normal(size=(count, 1, 1, b.shape(source)[3]))
        projected = b.conv2d(source, kernel.astype(np.float32), np.zeros(count, np.float32))
        results.append(b.resize(projected, 8, 7))
        if chain:
            source = b.resize(results[-1], 4, 3)
    graph = b.finish(b.concat(results))
    joined = joined_resizes(graph)
    image = noise(4, 3, 5)[:1]
    assert torch.allclose(run_graph(joined, image), run_graph(graph, image), rtol=0, atol=1e-6)
    wide = sum(count > 1 for count in channels)
    fewer = graph.operators()["resize"] - joined.operators()["resize"]
    assert fewer == (0 if chain else max(wide - 1, 0))
    assert_in_order(joined)
    assert emit_onnx(joined, SMALL)  # the checker wants it sorted


def assert_in_order(graph: Graph) -> None:
    known = {graph.input, *(v.name for v in graph.values.values() if v.data is not None)}
    for node in graph.nodes:
        assert known.issuperset(node.inputs), node
        known.add(node.output)


def test_the_network_joins_its_four_pairs() -> None:
    graph = build_onnx_graph(network(), ModelContract(128, 160))
    # Decoders 2 to 5 and the GABs beside them, and the final map.
    assert graph.operators()["resize"] == 5
    plain = network(bridge=False)
    assert build_onnx_graph(plain, ModelContract(128, 160)).operators()["resize"] == 5


@pytest.mark.parametrize(("channels", "batch"), [(1, 1), (1, 2), (2, 1), (5, 1), (5, 2), (24, 1)])
@pytest.mark.parametrize("sides", [(4, 6, 8, 12), (3, 5, 7, 11), (9, 8, 5, 3), (1, 4, 2, 8)])
def test_resizes_channels_last(sides: tuple[int, int, int, int], channels: int, batch: int) -> None:
    b = GraphBuilder((batch, sides[0], sides[1], channels))
    graph = b.finish(b.resize(b.input, sides[2], sides[3]))
    image = torch.randn(batch, sides[0], sides[1], channels)
    data = emit_onnx(graph, SMALL)
    want = F.interpolate(
        image.permute(0, 3, 1, 2), sides[2:], mode="bilinear", align_corners=True
    ).permute(0, 2, 3, 1)
    assert float((run(data, image) - want).abs().max()) <= 2e-6
    written = [node.op_type for node in onnx.load_from_string(data).graph.node]
    assert written.count("Resize") == (2 if (channels, batch) == (1, 1) else 1)
    assert ("Transpose" in written) == (batch == 1)
