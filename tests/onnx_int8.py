"""Static networks as integer .onnx files, and how they are run."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import static_models
from egeunet.export.graph import Graph
from egeunet.model import ModelContract
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.static_graph import build_static_graph

#: Where all arrangements are found; of a smaller one the maps are too small.
CONTRACT = ModelContract(128, 128)
Ranges = tuple[Graph, Calibration]


def pixels(count: int, contract: ModelContract = CONTRACT, seed: int = 3) -> Any:
    """uint8 (count, H, W, 3), smooth."""
    images = static_models.images(count, seed, contract.height)
    return (images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)


def recorded(graph: Graph, contract: ModelContract) -> Calibration:
    images = pixels(4, contract, seed=7)
    return calibrate(graph, contract, images, source="tests", weights_sha256="")


@functools.cache
def static() -> Ranges:
    """A graph of random static norms, and its ranges."""
    torch.set_num_threads(1)
    model = static_models.static_network()
    model.final.weight.mul_(1e-3)  # else most probabilities are 0 or 1
    graph = build_static_graph(model, CONTRACT).graph
    return graph, recorded(graph, CONTRACT)


def quantized(io: str = "uint8", **choices: Any) -> Graph:
    graph, calibration = static()
    kept = onnx_float_outputs(graph)
    choices = {"kernel_scales": "tensor", **choices}
    return quantize_int8(graph, calibration, CONTRACT, io, kept, **choices)


def session(data: bytes, optimized: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, image_nchw: Any) -> Any:
    return session(data).run(["probability"], {"image": image_nchw})[0]


def stored(images: Any) -> Any:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def in_convolutions(graph: Graph) -> Graph:
    """Fully connected operators as the 1x1 convolutions that they are."""
    values, nodes = dict(graph.values), []
    for node in graph.nodes:
        if node.op == "fully_connected":
            kernel = values[node.inputs[1]]
            assert kernel.data is not None
            data = kernel.data[:, None, None]
            values[kernel.name] = replace(kernel, data=data, shape=data.shape, dtype="int8")
            node = replace(node, op="conv2d", attributes={"dilation": 1})
        nodes.append(node)
    return Graph(graph.input, graph.output, nodes, values)
