"""Small graphs in int8, and LiteRT to run them, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import ModelContract
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.int8 import quantize_int8

CONTRACT = ModelContract()
_RNG = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    """Normally distributed float32, other ones at each call."""
    return _RNG.normal(size=shape).astype(np.float32)


def quantized(b: GraphBuilder, logits: str, **choices: Any) -> Graph:
    """The graph that ends in the sigmoid of ``logits``; every range is -8..8, its ends int8."""
    graph = b.finish(b.elementwise("sigmoid", logits))
    _, height, width, _ = b.shape(b.input)
    names = [graph.input, *(node.output for node in graph.nodes)]
    calibration = Calibration(dict.fromkeys(names, (-8.0, 8.0)), "", 1, "", height, width)
    return quantize_int8(graph, calibration, CONTRACT, "int8", **choices)


def image_for(graph: Graph) -> np.ndarray:
    """The same random int8 image (1, H, W, C) at each call."""
    shape = graph.values[graph.input].shape
    return np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)


def run(graph: Graph, kernels: OpResolverType = OpResolverType.AUTO) -> np.ndarray:
    """Output (H, W, C) int8, as int, for :func:`image_for`."""
    model = Interpreter(
        model_content=emit_tflite(graph, CONTRACT), experimental_op_resolver_type=kernels
    )
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], image_for(graph))
    model.invoke()
    return np.array(model.get_tensor(model.get_output_details()[0]["index"])[0]).astype(int)
