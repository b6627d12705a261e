"""One function per operator: a graph node -> MIL operations, channels first.

A lowering gets the builder and the node, appends what computes the node's output and
returns its variable. MIL has a norm over channels and an exact GELU of its own, which
Apple's compiler maps to its units as it likes; so nothing is taken apart here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from egeunet.export.coreml.builder import Array, MilBuilder
from egeunet.export.graph import Node

Lowering = Callable[[MilBuilder, Node], Any]
LOWERINGS: dict[str, Lowering] = {}

_NCHW_AXIS = {0: 0, 1: 2, 2: 3, 3: 1}  # axis of (N, H, W, C) -> axis of (N, C, H, W)


def lowering(op: str) -> Callable[[Lowering], Lowering]:
    """Register the lowering of a graph operator."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS[op] = function
        return function

    return register


@lowering("conv2d")
def _conv2d(b: MilBuilder, node: Node) -> Any:
    return _convolve(b, node, b.data(node.inputs[1]).transpose(0, 3, 1, 2), 1)  # OHWI -> OIHW


@lowering("depthwise_conv2d")
def _depthwise_conv2d(b: MilBuilder, node: Node) -> Any:
    kernel = b.data(node.inputs[1]).transpose(3, 0, 1, 2)  # 1HWC -> C1HW
    return _convolve(b, node, kernel, len(kernel))


def _convolve(b: MilBuilder, node: Node, kernel: Array, groups: int) -> Any:
    dilation = node.attributes["dilation"]
    vertical, horizontal = (dilation * (side // 2) for side in kernel.shape[2:])
    return b.add(
        "conv",
        x=b.operand(node.inputs[0]),
        weight=b.kernel(kernel, axis=0),
        bias=b.weight(b.data(node.inputs[2])),
        strides=[1, 1],
        pad_type="custom",
        pad=[vertical, vertical, horizontal, horizontal],
        dilations=[dilation, dilation],
        groups=groups,
    )


@lowering("layer_norm")
def _layer_norm(b: MilBuilder, node: Node) -> Any:
    # Over axis 1 of rank 4, as coremltools' own fusion of channel norms writes it.
    x, gamma, beta = node.inputs
    return b.add(
        "layer_norm",
        x=b.operand(x),
        axes=[1],
        gamma=b.weight(b.data(gamma)),
        beta=b.weight(b.data(beta)),
        epsilon=_epsilon(b, node),
    )


@lowering("group_norm")
def _group_norm(b: MilBuilder, node: Node) -> Any:
    gamma, beta = (b.data(name) for name in node.inputs[1:])
    n, height, width, channels = b.graph.values[node.output].shape
    groups = node.attributes["groups"]
    # A group's channels one under the other are one channel of an instance norm.
    stacked = [n, groups, channels // groups * height, width]
    normed = b.add(
        "instance_norm",
        x=b.add("reshape", x=b.operand(node.inputs[0]), shape=stacked),
        gamma=b.weight(np.ones(groups)),
        beta=b.weight(np.zeros(groups)),
        epsilon=_epsilon(b, node),
    )
    # The affine per channel is a batch norm of mean 0 and variance 1, as which
    # coremltools' own passes would fuse a mul and an add.
    return b.add(
        "batch_norm",
        x=b.add("reshape", x=normed, shape=[n, channels, height, width]),
        mean=b.weight(np.zeros(channels)),
        variance=b.weight(np.ones(channels)),
        gamma=b.weight(gamma),
        beta=b.weight(beta),
        epsilon=b.dtype(0),
    )


def _epsilon(b: MilBuilder, node: Node) -> Any:
    # In float16 1e-6 is subnormal, but not zero; coremltools' own cast keeps it like this.
    epsilon = b.dtype(node.attributes["eps"])
    if not epsilon > 0:
        raise ValueError(f"epsilon {node.attributes['eps']!r} is zero in {b.dtype.__name__}")
    return epsilon


@lowering("concat")
def _concat(b: MilBuilder, node: Node) -> Any:
    parts = [b.operand(name) for name in node.inputs]
    return b.add("concat", values=parts, axis=1, interleave=False)


@lowering("slice")
def _slice(b: MilBuilder, node: Node) -> Any:
    n, height, width, count = b.graph.values[node.output].shape
    begin, size = [0, node.attributes["begin"], 0, 0], [n, count, height, width]
    return b.add("slice_by_size", x=b.operand(node.inputs[0]), begin=begin, size=size)


def split(b: MilBuilder, nodes: list[Node]) -> list[Any]:
    """One ``split`` for slices that together cover their input, in channel order."""
    sizes = [int(node.attributes["count"]) for node in nodes]
    x = b.operand(nodes[0].inputs[0])
    if len(set(sizes)) == 1:
        return list(b.add("split", x=x, num_splits=len(sizes), axis=1))
    return list(b.add("split", x=x, split_sizes=sizes, axis=1))


@lowering("mean")
def _mean(b: MilBuilder, node: Node) -> Any:
    axes = sorted(_NCHW_AXIS[axis] for axis in node.attributes["axes"])
    return b.add("reduce_mean", x=b.operand(node.inputs[0]), axes=axes, keep_dims=True)


@lowering("resize")
def _resize(b: MilBuilder, node: Node) -> Any:
    _, old_height, old_width, _ = b.graph.values[node.inputs[0]].shape
    height, width = node.attributes["height"], node.attributes["width"]
    x = b.operand(node.inputs[0])
    if height % old_height or width % old_width:  # upsample_bilinear rounds height x scale down
        return b.add(
            "resize_bilinear",
            x=x,
            target_size_height=height,
            target_size_width=width,
            sampling_mode="STRICT_ALIGN_CORNERS",
        )
    return b.add(
        "upsample_bilinear",
        x=x,
        scale_factor_height=height // old_height,
        scale_factor_width=width // old_width,
        align_corners=True,
    )


@lowering("max_pool")
def _max_pool(b: MilBuilder, node: Node) -> Any:
    return b.add(
        "max_pool",
        x=b.operand(node.inputs[0]),
        kernel_sizes=[2, 2],
        strides=[2, 2],
        pad_type="valid",
        pad=[0, 0, 0, 0],
        ceil_mode=False,
    )


@lowering("gelu")
def _gelu(b: MilBuilder, node: Node) -> Any:
    return b.add("gelu", x=b.operand(node.inputs[0]), mode="EXACT")


@lowering("sigmoid")
def _sigmoid(b: MilBuilder, node: Node) -> Any:
    return b.add("sigmoid", x=b.operand(node.inputs[0]))


@lowering("rsqrt")
def _rsqrt(b: MilBuilder, node: Node) -> Any:
    # MIL adds an epsilon of 1e-12 of its own unless told: zero in float16, none here.
    return b.add("rsqrt", x=b.operand(node.inputs[0]), epsilon=b.dtype(0))


def _binary(operation: str) -> Lowering:
    def lower(b: MilBuilder, node: Node) -> Any:
        x, y = (b.operand(name) for name in node.inputs)
        return b.add(operation, x=x, y=y)

    return lower


for _op in ("add", "sub", "mul"):
    lowering(_op)(_binary(_op))
