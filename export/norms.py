"""LayerNorm and GroupNorm in operators that every mobile runtime has.

Both are exact in real arithmetic; tests/unit/test_norms.py bounds the rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, GraphBuilder, Node
from egeunet.export.rewrite import rewrite


def lower_norms(graph: Graph) -> Graph:
    """Replace every ``layer_norm`` and ``group_norm`` by primitive operators."""
    return rewrite(graph, {"layer_norm": _layer_norm, "group_norm": _group_norm})


def _layer_norm(b: GraphBuilder, node: Node, inputs: list[str]) -> str:
    x, gamma, beta = inputs
    channels = b.shape(x)[3]
    centred = b.sub(x, b.mean(x, (3,)))
    # One output channel of a 1x1 convolution is the mean of squares plus epsilon.
    average = np.full((1, 1, 1, channels), 1 / channels, np.float32)
    eps = np.array([node.attributes["eps"]], np.float32)
    variance = b.conv2d(b.mul(centred, centred), average, eps)
    normed = b.mul(centred, b.elementwise("rsqrt", variance))
    return b.add(b.mul(normed, gamma), beta)


def _group_norm(b: GraphBuilder, node: Node, inputs: list[str]) -> str:
    x, gamma, beta = inputs
    channels, groups = b.shape(x)[3], node.attributes["groups"]
    average = block_average(channels, groups)
    zero = np.zeros(channels, np.float32)
    eps = np.full(channels, node.attributes["eps"], np.float32)
    centred = b.sub(x, b.conv2d(b.mean(x, (1, 2)), average, zero))  # mean is (1, 1, 1, C)
    variance = b.conv2d(b.mean(b.mul(centred, centred), (1, 2)), average, eps)
    factor = b.mul(b.elementwise("rsqrt", variance), gamma)
    return b.add(b.mul(centred, factor), beta)


def block_average(channels: int, groups: int) -> NDArray[np.float32]:
    """(C, 1, 1, C) kernel that replaces each channel by the mean of its group."""
    size = channels // groups
    blocks = np.kron(np.eye(groups), np.full((size, size), 1 / size))
    return blocks.reshape(channels, 1, 1, channels).astype(np.float32)
