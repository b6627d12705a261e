"""The precisions that compute in floats; int8 lives in quantize/."""

from __future__ import annotations

import numpy as np

from egeunet.export.graph import Graph, GraphBuilder, Node
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.export.rewrite import rewrite

#: Smaller constants cost more as float16: a DEQUANTIZE and a tensor are some 90 bytes.
_SMALLEST_HALF = 48


def float32(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """Everything as it is."""
    return Prepared(graph)


def float16(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """Constants in float16; the arithmetic is the runtime's choice.

    TFLite stores them behind DEQUANTIZE nodes, which runtimes fold when they load the
    file. The emitter of ONNX does the same with Cast, that of Core ML casts the program.
    """
    if request.format != "tflite":
        return Prepared(graph)
    return Prepared(halve_constants(graph))


def compressed(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """Large weights in 8, 6 or 4 bits, float16 arithmetic: what Core ML's emitter does."""
    return Prepared(graph)


def halve_constants(graph: Graph) -> Graph:
    """Put every float32 constant that is worth it behind a DEQUANTIZE of float16."""
    halves: dict[str, str] = {}

    def translate(b: GraphBuilder, node: Node, inputs: list[str]) -> str:
        return b.add_node(
            node.op,
            [_halved(b, name, halves) for name in inputs],
            graph.values[node.output].shape,
            **node.attributes,
        )

    return rewrite(graph, dict.fromkeys(graph.operators(), translate))


def _halved(b: GraphBuilder, name: str, halves: dict[str, str]) -> str:
    data = b.values[name].data
    if data is None or data.dtype != np.float32 or data.size < _SMALLEST_HALF:
        return name
    if name not in halves:
        half = b.constant(data.astype(np.float16))
        halves[name] = b.add_node("dequantize", (half,), data.shape)
    return halves[name]
