"""A quantized graph in real numbers: run by torch, in batches, at any place of the graph.

Every integer value is held as the real number that it stands for, and rounded and clipped to
its grid where the file rounds and clips. What remains between this and the file is the order
of sums and the last bit of fixed-point factors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from egeunet.export.graph import Graph, Node, Value
from egeunet.export.interpret import operator, run_graph

_TYPES = {"int8": (-128, 127), "uint8": (0, 255)}


def simulate(graph: Graph, image_nhwc: Tensor) -> Tensor:
    """The output of a graph that int8.py made, in real numbers.

    Args:
        graph: whatever its ``io`` type.
        image_nhwc: (N, H, W, 3) float32, normalized as the contract says; any N.

    Returns:
        (N, H, W, 1) float32 probability.
    """
    return run_graph(in_real_numbers(graph), image_nhwc)


def in_real_numbers(graph: Graph) -> Graph:
    """A float graph, for :mod:`egeunet.export.interpret`, with an ``on_grid`` operator behind
    every node whose output is an integer."""
    values = {name: _real(value) for name, value in graph.values.items()}
    nodes = []
    for node in graph.nodes:
        output = graph.values[node.output]
        if node.op in ("quantize", "dequantize"):  # the same number, in another type
            node = replace(node, op="same_number")
        if output.dtype not in _TYPES:
            nodes.append(node)
            continue
        assert output.quantization is not None
        exact = f"{node.output} exact"
        values[exact] = replace(values[node.output], name=exact)
        nodes.append(replace(node, output=exact))
        low, high = _TYPES[output.dtype]
        scale, zero = output.quantization.scale[0], output.quantization.zero_point[0]
        grid = {"scale": float(scale), "zero": int(zero), "low": low, "high": high}
        nodes.append(Node("on_grid", (exact,), node.output, grid, node.scope))
    return Graph(graph.input, graph.output, nodes, values)


def _real(value: Value) -> Value:
    """The value as float32; a constant's data are what its integers stand for."""
    data, quantization = value.data, value.quantization
    if data is not None and quantization is not None:
        axis = quantization.axis if len(quantization.scale) > 1 else 0
        shape = [-1 if i == axis else 1 for i in range(data.ndim)]
        scale = quantization.scale.astype(np.float64).reshape(shape)
        data = ((data - quantization.zero_point.reshape(shape)) * scale).astype(np.float32)
    return Value(value.name, value.shape, "float32", data)


@operator("on_grid")
def _on_grid(node: Node, inputs: list[Tensor]) -> Tensor:
    scale, zero = node.attributes["scale"], node.attributes["zero"]
    units = torch.round(inputs[0] / scale) + zero
    return (units.clamp(node.attributes["low"], node.attributes["high"]) - zero) * scale


operator("same_number")(lambda node, inputs: inputs[0])
