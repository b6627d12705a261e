"""A deploy graph as a network that can be trained, in float or as its integer file computes.

In integer mode every value lies on the grid of its int8 tensor, kernels on the grids of their
channels, and rounding is passed by the gradient as if it were not there (Bengio et al.,
arXiv:1308.3432). Biases stay float: their 32 bits are finer than float32 here. The bounds of
the activations are trained along (Esser et al., arXiv:1902.08153).

What remains between this and the file is the order of sums and the last bit of XNNPACK's
fixed-point factors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from egeunet.export.graph import Graph, Node
from egeunet.export.interpret import compute
from egeunet.model.layers import resize
from egeunet.quantize.clipping import only_clipped
from egeunet.quantize.grids import LARGEST_FLOAT, SMALLEST_SCALE, ZERO_POINT_UNIT, Kernels
from egeunet.quantize.int8 import is_hybrid
from egeunet.quantize.scale_ties import (
    float_outputs,
    in_group_norm,
    in_layer_norm,
    scale_roots,
    small_outputs,
    tied_inputs,
)
from egeunet.quantize.static_graph import StaticGraph

#: Operators of SAME_SCALE whose output lies on the grid of their inputs without rounding.
_ON_GRID = ("slice", "max_pool", "reshape", "concat", "maximum", "relu")
#: Its root's inverse is beyond every int8 range, as infinity is in the file.
_SMALLEST_VARIANCE = 1e-8


class TrainedGraph(nn.Module):
    """The constants of a graph as parameters.

    Args:
        static: the graph and its places.
        input_scale: of the uint8 input, 1/255 for a contract of unit normalization.
    """

    def __init__(self, static: StaticGraph, input_scale: float = 1 / 255) -> None:
        super().__init__()
        self.static, self.input_scale = static, input_scale
        graph = static.graph
        self.constants = nn.ParameterDict(
            {value.name: nn.Parameter(torch.tensor(value.data)) for value in graph.constants()}
        )
        small = small_outputs(graph, static.form.float_pixels)
        self._kept = small.union(float_outputs(graph))
        self._hybrid = {n.output for n in graph.nodes if is_hybrid(graph, n, small)}
        self.groups = scale_groups(graph, small)
        count = max(self.groups.values()) + 1
        #: Bounds at the start of integer training, and the logarithm of how they changed.
        self.bounds: Tensor
        self.register_buffer("bounds", torch.zeros(count, 2))
        self.growth = nn.Parameter(torch.zeros(count, 2))
        self.integer = False
        self._kernels = _kernels_of(static)
        self._of_norms = _of_norms(graph)

    def trainable(self) -> None:
        """Train everything but what dynamic norms are made of: an epsilon must not become
        negative, nor a mean anything else."""
        self.requires_grad_(True)
        for name in self._of_norms:
            self.constants[name].requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) float, normalized -> logits (B, 1, H, W), maps (B, C, h, w) by place."""
        values, factor = self.values(image), self.static.form.factor
        taps = {
            place: values[name].permute(0, 3, 1, 2) / factor
            for place, name in self.static.taps.items()
        }
        return values[self.static.graph.nodes[-1].inputs[0]].permute(0, 3, 1, 2), taps

    def values(self, image: Tensor) -> dict[str, Tensor]:
        """Every value by name up to the logits, (B, h, w, C), for normalized images."""
        graph, integer = self.static.graph, self.integer
        bounds = self.current_bounds() if integer else self.bounds
        x = image.permute(0, 2, 3, 1)
        if integer:
            x = torch.round(x / self.input_scale) * self.input_scale
        values = {graph.input: x}
        for node in graph.nodes:
            if node.output == graph.output:  # the logits are what losses take
                (name,) = node.inputs
                values[name] = self._input(name, node, values, bounds)
                break
            inputs = [self._input(name, node, values, bounds) for name in node.inputs]
            output = _compute(node, inputs)
            if integer and node.op == "sigmoid":  # LOGISTIC's scale is fixed
                output = torch.clamp(rounded(output * 256), 0, 255) / 256
            elif integer and node.op not in _ON_GRID and node.output not in self._kept:
                output = self._on_grid(output, *bounds[self.groups[node.output]])
            values[node.output] = output
        return values

    @torch.no_grad()
    def observe(self, images: Tensor) -> dict[str, tuple[float, float]]:
        """Means over images of each value's minimum and maximum (calibration.py says why).

        Args:
            images: (N, 3, H, W) float, normalized training images, N >= 1.
        """
        integer, self.integer = self.integer, False
        totals: dict[str, Tensor] = {}
        for batch in images.split(8):
            for name, value in self.values(batch).items():
                flat = value.flatten(1)
                extremes = torch.stack((flat.amin(1), flat.amax(1))).sum(1)
                totals[name] = totals.get(name, torch.zeros(2)) + extremes
        self.integer = integer
        means = {name: (total / len(images)).tolist() for name, total in totals.items()}
        return {name: (low, high) for name, (low, high) in means.items()}

    def current_bounds(self) -> Tensor:
        """(groups, 2) float: low <= 0 and high >= 0 of each int8 scale."""
        return self.bounds * torch.exp(self.growth)

    @torch.no_grad()
    def set_bounds(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Start from recorded ranges by value name; values of one scale take their union."""
        bounds, clipped = torch.zeros_like(self.bounds), only_clipped(self.static.graph)
        for name, (low, high) in {**ranges, **self._constant_ranges()}.items():
            low = 0.0 if name in clipped else low
            if name in self.groups:
                row = bounds[self.groups[name]]
                row[0], row[1] = min(float(row[0]), low), max(float(row[1]), high)
        self.bounds.copy_(bounds)
        self.growth.zero_()

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Bounds by value name, such that int8.py makes the very scales of the training."""
        steps = self.static.form.scale_steps
        grids = [grid(row[0], row[1], steps) for row in self.current_bounds().detach()]
        found = {}
        for name, group in self.groups.items():
            scale, zero = (float(part) for part in grids[group])
            found[name] = (-128 - zero) * scale, (127 - zero) * scale
        return found

    def calibration_ranges(self) -> dict[str, tuple[float, float]]:
        """:meth:`ranges` of the activations, with the input and the output, as int8.py asks."""
        graph, ranges = self.static.graph, self.ranges()
        ends = {node.output: (0.0, 1.0) for node in graph.nodes if node.op == "sigmoid"}
        ends[graph.input] = 0.0, 255 * self.input_scale
        return {n: r for n, r in ranges.items() if graph.values[n].data is None} | ends

    def trained(self) -> Graph:
        """The graph with the parameters' present values; constants that share an
        activation's scale are clipped to what it can hold."""
        graph, ranges = self.static.graph, self.ranges()
        values = dict(graph.values)
        for name, parameter in self.constants.items():
            data = parameter.detach().contiguous().numpy().astype(np.float32).copy()
            if name in self.groups:
                data = np.clip(data, *ranges[name]).astype(np.float32)
            values[name] = replace(values[name], data=data)
        return Graph(graph.input, graph.output, graph.nodes, values)

    def _constant_ranges(self) -> dict[str, tuple[float, float]]:
        tied = [name for name in self.constants if name in self.groups]
        return {
            name: (float(self.constants[name].min()), float(self.constants[name].max()))
            for name in tied
        }

    def _input(self, name: str, node: Node, values: dict[str, Tensor], bounds: Tensor) -> Tensor:
        if name not in values:
            return self._constant(name, node, bounds)
        if self.integer and name in self._kept and node.output not in self._kept:
            return self._on_grid(values[name], *bounds[self.groups[name]])  # quantized here
        return values[name]

    def _constant(self, name: str, node: Node, bounds: Tensor) -> Tensor:
        value = self.constants[name]
        kept = node.output in self._kept
        if not self.integer or (kept and node.output not in self._hybrid):
            return value
        if name in self._kernels:
            return kernel_on_grid(value, *self._kernels[name], self.static.form.scale_steps)
        if node.op in ("conv2d", "depthwise_conv2d"):
            return value  # a bias
        if name in self.groups:
            return self._on_grid(value, *bounds[self.groups[name]])
        if kept and value.numel() <= LARGEST_FLOAT:
            return value
        low, high = value.detach().min().clamp(max=0), value.detach().max().clamp(min=0)
        return self._on_grid(value, low, high)

    def _on_grid(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return on_grid(x, low, high, self.static.form.scale_steps)


def scale_groups(graph: Graph, small: Collection[str] = ()) -> dict[str, int]:
    """Value name -> number of its int8 scale; values that an operator ties share one.

    Constants are among them where they are tied to an activation; neither the graph's
    input nor what a sigmoid gives is, whose scales are fixed.
    """
    root = scale_roots(graph, small)
    names = [node.output for node in graph.nodes if node.op != "sigmoid"]
    names += [name for node in graph.nodes for name in tied_inputs(node, small)]
    numbers: dict[str, int] = {}
    return {name: numbers.setdefault(root(name), len(numbers)) for name in dict.fromkeys(names)}


def rounded(x: Tensor) -> Tensor:
    """To the nearest integer, half to even, with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def grid(low: Tensor, high: Tensor, steps: int = 0) -> tuple[Tensor, Tensor]:
    """Scale and zero point of int8 over low..high; as int8.asymmetric, for training."""
    scale, unit = ((high - low) / 255).clamp(min=SMALLEST_SCALE), 1
    if steps:
        scale, unit = torch.exp2(rounded(torch.log2(scale) * steps) / steps), ZERO_POINT_UNIT
    return scale, (unit * rounded((-128 - low / scale) / unit)).clamp(-128, 127)


def on_grid(x: Tensor, low: Tensor, high: Tensor, steps: int = 0) -> Tensor:
    """Rounded and clipped to the 256 values of int8 over low..high."""
    scale, zero = grid(low, high, steps)
    return (torch.clamp(rounded(x / scale) + zero, -128, 127) - zero) * scale


def kernel_on_grid(kernel: Tensor, axis: int | None, levels: int = 127, steps: int = 0) -> Tensor:
    """Rounded to -levels..levels units, one per channel of ``axis`` or, without one, for all;
    as int8.symmetric, for training."""
    others = [i for i in range(kernel.ndim) if i != axis]
    scale = kernel.detach().abs().amax(others, keepdim=True) / levels
    scale = scale.clamp(min=SMALLEST_SCALE)
    if axis is None and steps:
        scale = torch.exp2(torch.ceil(torch.log2(scale) * steps) / steps)
    return rounded(kernel / scale) * scale


def _of_norms(graph: Graph) -> set[str]:
    """Names of the constants that dynamic norms make their statistics with, from a norm's
    first operator to its last 1 / sqrt; what scales and shifts its result is not among them."""
    makers = {n.output: n for n in graph.nodes if in_group_norm(n) or in_layer_norm(n)}
    found, seen = set(), set()
    pending = [node.output for node in makers.values() if node.op == "rsqrt"]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in makers:
            pending += makers[name].inputs
        elif graph.values[name].data is not None:
            found.add(name)
    return found


def _kernels_of(static: StaticGraph) -> dict[str, tuple[int | None, int]]:
    """Name of a kernel -> axis of its scales, largest integer."""
    form, graph = static.form, static.graph
    kernels = Kernels(graph, form.kernel_scales, form.pointwise_bits, form.four_bit_inputs)
    convolutions = [n for n in graph.nodes if n.op in ("conv2d", "depthwise_conv2d")]
    return {n.inputs[1]: (kernels.axis(n), kernels.levels(n)) for n in convolutions}


def _compute(node: Node, inputs: list[Tensor]) -> Tensor:
    """NHWC in and out; as in interpret.py, but for gradients: of a resize and of 1 / sqrt(0)."""
    if node.op == "resize":
        size = (node.attributes["height"], node.attributes["width"])
        return resize(inputs[0].permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
    if node.op == "rsqrt":  # a variance may be rounded to zero: infinite, and so is the gradient
        inputs = [inputs[0].clamp(min=_SMALLEST_VARIANCE)]
    return compute(node, inputs)
