"""LayerNorm and GroupNorm in operators that every mobile runtime has.

Both are exact in real arithmetic; tests/unit/test_norms.py bounds the rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, GraphBuilder, Node
from egeunet.export.rewrite import rewrite


def lower_norms(graph: Graph, *, affine_as_convolution: bool = False) -> Graph:
    """Replace every ``layer_norm`` and ``group_norm`` by primitive operators.

    Args:
        graph: the deploy form.
        affine_as_convolution: a LayerNorm's gamma and beta as one 1x1 depthwise
            convolution instead of MUL and ADD. In int8 that is one rounding instead of
            two, with a scale per channel and a 32-bit beta.
    """
    lowering = _Lowering(affine_as_convolution)
    return rewrite(graph, {"layer_norm": lowering.layer_norm, "group_norm": lowering.group_norm})


class _Lowering:
    def __init__(self, affine_as_convolution: bool) -> None:
        self.affine_as_convolution = affine_as_convolution

    def layer_norm(self, b: GraphBuilder, node: Node, inputs: list[str]) -> str:
        x, gamma, beta = inputs
        channels = b.shape(x)[3]
        b.scope = f"{node.scope}/layer_norm"
        centred = b.sub(x, b.mean(x, (3,)))
        # One output channel of a 1x1 convolution is the mean of squares plus epsilon.
        average = np.full((1, 1, 1, channels), 1 / channels, np.float32)
        eps = np.array([node.attributes["eps"]], np.float32)
        variance = b.conv2d(b.mul(centred, centred), average, eps)
        return self.affine(b, b.mul(centred, b.elementwise("rsqrt", variance)), gamma, beta)

    def group_norm(self, b: GraphBuilder, node: Node, inputs: list[str]) -> str:
        x, gamma, beta = inputs
        channels, groups = b.shape(x)[3], node.attributes["groups"]
        b.scope = f"{node.scope}/group_norm"
        gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
        none = np.zeros(channels, np.float32)
        eps = np.full(groups, node.attributes["eps"], np.float32)
        # Statistics are (1, 1, 1, C) and (1, 1, 1, groups): the convolutions cost nothing.
        mean = b.conv2d(b.mean(x, (1, 2)), gather, none[:groups])
        centred = b.sub(x, b.conv2d(mean, spread, none))
        variance = b.conv2d(b.mean(b.mul(centred, centred), (1, 2)), gather, eps)
        scale = spread * _data(b, gamma).reshape(-1, 1, 1, 1)
        factor = b.conv2d(b.elementwise("rsqrt", variance), scale, none)
        return b.add(b.mul(centred, factor), beta)

    def affine(self, b: GraphBuilder, normed: str, gamma: str, beta: str) -> str:
        if not self.affine_as_convolution:
            return b.add(b.mul(normed, gamma), beta)
        weight = _data(b, gamma).reshape(1, 1, 1, -1)
        return b.depthwise_conv2d(normed, weight, _data(b, beta))


def gather_groups(channels: int, groups: int) -> NDArray[np.float32]:
    """(groups, 1, 1, C) kernel: the mean of each group of channels."""
    size = channels // groups
    blocks = np.kron(np.eye(groups), np.full((1, size), 1 / size))
    return blocks.reshape(groups, 1, 1, channels).astype(np.float32)


def spread_groups(channels: int, groups: int) -> NDArray[np.float32]:
    """(C, 1, 1, groups) kernel: each channel takes the value of its group."""
    blocks = np.kron(np.eye(groups), np.ones((channels // groups, 1)))
    return blocks.reshape(channels, 1, 1, groups).astype(np.float32)


def _data(b: GraphBuilder, name: str) -> NDArray[np.float32]:
    data = b.values[name].data
    assert data is not None, f"{name} is no constant"
    return data
