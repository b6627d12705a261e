"""Run a float graph in PyTorch: for calibration, and to check passes and emitters against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from egeunet.export.graph import Graph, Node

_Operator = Callable[[Node, list[Tensor]], Tensor]
_OPERATORS: dict[str, _Operator] = {}


def operator(name: str) -> Callable[[_Operator], _Operator]:
    """Decorator: make a function (node, input tensors) -> output the operator ``name``."""

    def register(function: _Operator) -> _Operator:
        _OPERATORS[name] = function
        return function

    return register


@torch.inference_mode()
def activations(graph: Graph, image_nhwc: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield (value name, tensor) for the input and then every node's output, in order.

    Args:
        graph: in float32.
        image_nhwc: (N, H, W, C) float32, normalized; any N.

    Raises:
        NotImplementedError: for an operator that float graphs do not have.
    """
    values = {value.name: torch.from_numpy(value.data) for value in graph.constants()}
    last_use = {name: node for node in graph.nodes for name in node.inputs}
    values[graph.input] = image_nhwc
    yield graph.input, image_nhwc
    for node in graph.nodes:
        values[node.output] = compute(node, [values[name] for name in node.inputs])
        yield node.output, values[node.output]
        for name in node.inputs:
            if last_use[name] is node:
                values.pop(name, None)


def compute(node: Node, inputs: list[Tensor]) -> Tensor:
    """What one node gives for its inputs, NHWC.

    Raises:
        NotImplementedError: for an operator that float graphs do not have.
    """
    if node.op not in _OPERATORS:
        raise NotImplementedError(f"no float implementation of operator {node.op!r}")
    return _OPERATORS[node.op](node, inputs)


def run_graph(graph: Graph, image_nhwc: Tensor) -> Tensor:
    """The graph's output, (N, H, W, C) float32; see :func:`activations`."""
    result = image_nhwc
    for name, tensor in activations(graph, image_nhwc):
        if name == graph.output:
            result = tensor
    return result


@operator("conv2d")
def _conv2d(node: Node, inputs: list[Tensor]) -> Tensor:
    return _convolve(node, inputs, inputs[1].permute(0, 3, 1, 2), 1)  # OHWI -> OIHW


@operator("depthwise_conv2d")
def _depthwise_conv2d(node: Node, inputs: list[Tensor]) -> Tensor:
    kernel = inputs[1].permute(3, 0, 1, 2)  # 1HWC -> C1HW
    return _convolve(node, inputs, kernel, len(kernel))


def _convolve(node: Node, inputs: list[Tensor], kernel: Tensor, groups: int) -> Tensor:
    x, bias = inputs[0], inputs[2] if len(inputs) > 2 else None
    dilation = node.attributes["dilation"]
    y = F.conv2d(
        x.permute(0, 3, 1, 2), kernel, bias,
        padding=dilation * (kernel.shape[2] // 2), dilation=dilation, groups=groups,
    )  # fmt: skip
    return y.permute(0, 2, 3, 1)


@operator("layer_norm")
def _layer_norm(node: Node, inputs: list[Tensor]) -> Tensor:
    x, gamma, beta = inputs
    return F.layer_norm(x, gamma.shape, gamma, beta, node.attributes["eps"])


@operator("group_norm")
def _group_norm(node: Node, inputs: list[Tensor]) -> Tensor:
    x, gamma, beta = inputs
    groups, eps = node.attributes["groups"], node.attributes["eps"]
    return F.group_norm(x.permute(0, 3, 1, 2), groups, gamma, beta, eps).permute(0, 2, 3, 1)


@operator("resize")
def _resize(node: Node, inputs: list[Tensor]) -> Tensor:
    size = (node.attributes["height"], node.attributes["width"])
    y = F.interpolate(inputs[0].permute(0, 3, 1, 2), size, mode="bilinear", align_corners=True)
    return y.permute(0, 2, 3, 1)


@operator("max_pool")
def _max_pool(node: Node, inputs: list[Tensor]) -> Tensor:
    return F.max_pool2d(inputs[0].permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


@operator("slice")
def _slice(node: Node, inputs: list[Tensor]) -> Tensor:
    begin, count = node.attributes["begin"], node.attributes["count"]
    return inputs[0][..., begin : begin + count]


@operator("mean")
def _mean(node: Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].mean(node.attributes["axes"], keepdim=True)


@operator("reshape")
def _reshape(node: Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].reshape(len(inputs[0]), *node.attributes["to"][1:])


operator("add")(lambda node, inputs: inputs[0] + inputs[1])
operator("sub")(lambda node, inputs: inputs[0] - inputs[1])
operator("maximum")(lambda node, inputs: torch.maximum(inputs[0], inputs[1]))
operator("mul")(lambda node, inputs: inputs[0] * inputs[1])
operator("affine")(lambda node, inputs: inputs[0] * inputs[1] + inputs[2])
operator("concat")(lambda node, inputs: torch.cat(inputs, dim=3))
operator("rsqrt")(lambda node, inputs: torch.rsqrt(inputs[0]))
operator("relu")(lambda node, inputs: torch.relu(inputs[0]))
operator("gelu")(lambda node, inputs: F.gelu(inputs[0]))
operator("sigmoid")(lambda node, inputs: torch.sigmoid(inputs[0]))
