"""Graphs of one operator each, to test every emitter's lowerings against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from egeunet.export.graph import Array, Graph, GraphBuilder
from egeunet.export.interpret import run_graph
from egeunet.export.lean import LeanTranslator
from egeunet.model.layers import ChannelLayerNorm

Build = Callable[[GraphBuilder], str]


def _random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _mixed_slices(counts: list[int]) -> Build:
    """Slices that cover all channels, joined in the opposite order."""

    def build(b: GraphBuilder) -> str:
        begins = np.cumsum([0, *counts[:-1]]).tolist()
        parts = [b.slice(b.input, begin, n) for begin, n in zip(begins, counts, strict=True)]
        return b.concat(parts[::-1])

    return build


def _joined(b: GraphBuilder) -> str:
    return b.concat([b.mean(b.input, (3,)), b.input, b.elementwise("sigmoid", b.input)])


def _positive_rsqrt(b: GraphBuilder) -> str:
    square = b.mul(b.input, b.input)
    return b.elementwise("rsqrt", b.add(square, b.constant(np.array([0.5], np.float32))))


def _conv(out: int, kernel: int) -> Build:
    return lambda b: b.conv2d(
        b.input, _random(out, kernel, kernel, b.shape(b.input)[3]), _random(out)
    )


def _depthwise(dilation: int) -> Build:
    def build(b: GraphBuilder) -> str:
        channels = b.shape(b.input)[3]
        return b.depthwise_conv2d(b.input, _random(1, 3, 3, channels), _random(channels), dilation)

    return build


def _with_constant(op: str, *shape: int) -> Build:
    return lambda b: getattr(b, op)(b.input, b.constant(_random(*shape)))


def _layer_norm(b: GraphBuilder) -> str:
    channels = b.shape(b.input)[3]
    return b.layer_norm(b.input, _random(channels), _random(channels, 1)[:, 0], 1e-6)


def _group_norm(b: GraphBuilder) -> str:
    channels = b.shape(b.input)[3]
    return b.group_norm(b.input, _random(channels), _random(channels, 1)[:, 0], 4, 1e-5)


#: name -> (input shape (1, H, W, C), what to build)
CASES: dict[str, tuple[tuple[int, int, int, int], Build]] = {
    "conv 1x1": ((1, 6, 9, 5), _conv(7, 1)),
    "conv 3x3": ((1, 6, 9, 3), _conv(8, 3)),
    **{f"depthwise, dilation {d}": ((1, 11, 17, 5), _depthwise(d)) for d in (1, 2, 5, 7)},
    "add, two activations": ((1, 6, 9, 5), lambda b: b.add(b.input, b.mean(b.input, (3,)))),
    "add, constant per channel": ((1, 6, 9, 5), _with_constant("add", 5)),
    "sub, constant per channel": ((1, 6, 9, 5), _with_constant("sub", 5)),
    "sub, order": ((1, 6, 9, 5), lambda b: b.sub(b.mean(b.input, (1, 2)), b.input)),
    "mul, gate xy": ((1, 6, 9, 5), _with_constant("mul", 1, 6, 9, 5)),
    "mul, gate zx": ((1, 6, 9, 5), _with_constant("mul", 1, 6, 1, 5)),
    "mul, gate zy": ((1, 6, 9, 5), _with_constant("mul", 1, 1, 9, 5)),
    "mul, square gate": ((1, 7, 7, 7), _with_constant("mul", 1, 7, 1, 7)),
    "concat, unequal widths": ((1, 6, 9, 5), _joined),
    "one slice": ((1, 6, 9, 5), lambda b: b.slice(b.input, 1, 3)),
    "four equal slices": ((1, 6, 9, 20), _mixed_slices([5, 5, 5, 5])),
    "unequal slices": ((1, 6, 9, 9), _mixed_slices([2, 4, 3])),
    "mean over channels": ((1, 6, 9, 5), lambda b: b.mean(b.input, (3,))),
    "mean over pixels": ((1, 6, 9, 5), lambda b: b.mean(b.input, (1, 2))),
    "rsqrt": ((1, 6, 9, 5), _positive_rsqrt),
    "gelu": ((1, 6, 9, 5), lambda b: b.elementwise("gelu", b.input)),
    "sigmoid": ((1, 6, 9, 5), lambda b: b.elementwise("sigmoid", b.input)),
    "max_pool": ((1, 6, 10, 5), lambda b: b.max_pool(b.input)),
    "max_pool, odd sides": ((1, 7, 9, 5), lambda b: b.max_pool(b.input)),
    "resize x2": ((1, 4, 6, 5), lambda b: b.resize(b.input, 8, 12)),
    "resize x2, x1": ((1, 4, 6, 5), lambda b: b.resize(b.input, 8, 6)),
    "resize 3 to 7": ((1, 3, 5, 5), lambda b: b.resize(b.input, 7, 11)),
    "resize down": ((1, 9, 8, 5), lambda b: b.resize(b.input, 5, 3)),
    "resize from one row": ((1, 1, 4, 5), lambda b: b.resize(b.input, 2, 8)),
    "layer_norm, odd channels": ((1, 6, 9, 5), _layer_norm),
    "layer_norm, 36 channels": ((1, 4, 6, 36), _layer_norm),
    "group_norm, 8 channels": ((1, 6, 9, 8), _group_norm),
    "group_norm, 20 channels": ((1, 5, 3, 20), _group_norm),
}  # fmt: skip


def _affine(norm: Any, trained: bool = False) -> Any:
    """The norm with random parameters: of both signs, or of the size that training gives
    (gamma 0.75 to 1.25, beta up to 0.5)."""
    gamma, beta = _random(len(norm.weight)), _random(len(norm.weight), 1)[:, 0].copy()
    if trained:
        gamma, beta = 1 + np.tanh(gamma) / 4, np.tanh(beta) / 2
    norm.weight.data, norm.bias.data = torch.from_numpy(gamma), torch.from_numpy(beta)
    return norm


def _dissolved_layer_norm(b: GraphBuilder, trained: bool = False) -> str:
    norm = _affine(ChannelLayerNorm(b.shape(b.input)[3]), trained)
    normed, scale = LeanTranslator(b, "speed").scaled_norm(norm, b.input)
    return b.depthwise_conv2d(normed, scale.reshape(1, 1, 1, -1), np.zeros_like(scale))


def _dissolved_group_norm(b: GraphBuilder) -> str:
    norm = _affine(torch.nn.GroupNorm(4, b.shape(b.input)[3]))
    ones = np.ones(norm.num_channels, np.float32)
    return LeanTranslator(b, "speed").group_affine(norm, b.input, b.input, ones)


#: The norms among them as lean.py writes them, for formats that have no such operator; what
#: a LayerNorm hands on to its neighbour is a depthwise convolution here.
DISSOLVED: dict[str, tuple[tuple[int, int, int, int], Build]] = {
    name: (shape, _dissolved_layer_norm if "layer" in name else _dissolved_group_norm)
    for name, (shape, _) in CASES.items()
    if "norm" in name
}
DISSOLVED["layer_norm, as trained"] = (1, 4, 6, 36), lambda b: _dissolved_layer_norm(b, True)


def graph_of(name: str) -> Graph:
    """The graph of one case."""
    shape, build = CASES[name]
    builder = GraphBuilder(shape)
    return builder.finish(build(builder))


def image_and_result(graph: Graph) -> tuple[Array, Array]:
    """A random input (1, C, H, W) and what PyTorch makes of it, (1, C, H, W), float32."""
    image_nhwc = _random(*graph.values[graph.input].shape)
    result = run_graph(graph, torch.from_numpy(image_nhwc))
    return image_nhwc.transpose(0, 3, 1, 2).copy(), result.permute(0, 3, 1, 2).numpy()
