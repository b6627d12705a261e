"""Which tensor of a broken file departs first, and the layer of the reference it belongs to.

Each operator of the file is held against the same operator of the deploy graph, fed with what
the file itself feeds it. So an error counts where it is made and not again downstream, and the
rounding of integer files does not add up from layer to layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, Node, Value
from egeunet.export.runners.runner import Pixels
from egeunet.model.errors import InputError

if TYPE_CHECKING:
    from egeunet.model.contract import ModelContract
    from egeunet.model.egeunet import EGEUNet

#: An operator's own error from which it departs, by precision: a share of the spread of what
#: it should give. Healthy files of the shipped weights stay below a third of these.
_LIMITS = {"float32": 0.01, "float16": 0.05, "int8": 0.6}
#: Rows of the table in a report: the operators with the greatest errors.
_ROWS = 40
#: Stands for an error without bounds, as JSON has no infinity.
_NOT_FINITE = 1e9

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file as it was when the file ran.

    Attributes:
        label: how the file calls or numbers it.
        content: float32 (N, H, W, C), real values.
        step: the real value of one integer step; 0 in float.
    """

    label: str
    content: Array
    step: float = 0.0


@dataclass(frozen=True)
class Observed:
    """A file's run beside the graph it was written from.

    Attributes:
        graph: the deploy graph of the reference, float32.
        tensors: by the names of the graph's values.
    """

    graph: Graph
    tensors: dict[str, Tensor]


#: Runs a file on images and matches its tensors with a graph of the reference.
Observe = Callable[[Path, "EGEUNet", "ModelContract", Pixels], Observed]


def where(path: Path, weights: Path, precision: str | None, images: Pixels) -> dict[str, Any]:
    """Find the first tensor that departs.

    Args:
        path: a .tflite or .onnx file written by egeunet-export.
        weights: the reference it was made from.
        precision: of the file: how much error is rounding; None = as int8.
        images: uint8 (N, H, W, 3) at the file's input size; two are enough.

    Returns:
        The value of ``where`` in a row of the report: ``tensor`` and ``layer`` (empty where
        no operator departs by itself), ``max_abs_diff`` of that tensor from the reference's,
        ``compared`` tensors, and ``table``: in the order of execution the operators with the
        greatest errors, with ``own`` (error of this operator alone) and ``total``.

    Raises:
        InputError: another format, or a file that is no export of these weights.
    """
    from egeunet.benchmarks.where_onnx import observe_onnx
    from egeunet.benchmarks.where_tflite import observe_tflite
    from egeunet.model import load_weights

    observers: dict[str, Observe] = {".tflite": observe_tflite, ".onnx": observe_onnx}
    observe = observers.get(path.suffix.lower())
    if observe is None:
        raise InputError(f"{path}: tensors can be compared in {' and '.join(observers)} files")
    model, contract = load_weights(weights)
    observed = observe(path, model, contract, images)
    rows = _errors(observed, contract.normalize(images))
    limit = _LIMITS.get(precision or "int8", _LIMITS["int8"])
    first = next((row for row in rows if not row["own"] <= limit), None)
    greatest = sorted(rows, key=lambda row: -row["own"])[:_ROWS]
    return {
        "tensor": first["tensor"] if first else "",
        "layer": first["layer"] if first else "",
        "max_abs_diff": first["max_abs_diff"] if first else None,
        "compared": len(rows),
        "limit": limit,
        "table": [row for row in rows if row in greatest],
    }


def no_match(path: Path) -> InputError:
    """A file that none of the graphs of the reference fits."""
    return InputError(
        f"{path}: its operators are not those of an export of these weights; "
        "export it again by this version, or give the weights it was made from"
    )


def _errors(observed: Observed, image_nhwc: Array) -> list[dict[str, Any]]:
    """One entry for each operator whose output and inputs were observed, in order."""
    import torch

    from egeunet.export.interpret import activations

    graph, tensors = observed.graph, observed.tensors
    expected = dict(activations(graph, torch.from_numpy(image_nhwc)))
    rows = []
    for node in graph.nodes:
        if node.output not in tensors:
            continue
        tensor = tensors[node.output]
        alone = _alone(node, graph, tensors)
        if alone is None:
            continue
        whole = expected[node.output].numpy()
        rows.append(
            {
                "tensor": tensor.label,
                "layer": node.scope,
                "operator": node.op,
                "max_abs_diff": _finite(np.abs(tensor.content - whole).max()),
                "own": _relative(tensor.content, alone, tensor.step),
                "total": _relative(tensor.content, whole, tensor.step),
            }
        )
    return rows


def _alone(node: Node, graph: Graph, tensors: dict[str, Tensor]) -> Array | None:
    """What the operator should make of what the file feeds it; None if that is not known."""
    import torch

    from egeunet.export.interpret import run_graph

    values: dict[str, Value] = {}
    for name in node.inputs:
        value = graph.values[name]
        if value.data is None:
            if name not in tensors:
                return None
            content = tensors[name].content
            value = Value(name, content.shape, "float32", content)
        values[name] = value
    values[node.output] = graph.values[node.output]
    single = Graph("", node.output, [node], values)  # all inputs are constants of it
    return run_graph(single, torch.zeros(0)).numpy()


def _relative(actual: Array, expected: Array, step: float) -> float:
    """Root mean square error over the spread of what was expected (its size, where it is
    uniform), in which a rounding step of the file is no error. Only where a finite value was
    expected: 1 / sqrt(0), which an integer file may ask for, is infinite on both sides."""
    expected = np.broadcast_to(expected, actual.shape)  # of constants only: one for all images
    known = np.isfinite(expected)
    if not known.any():
        return 0.0
    actual, expected = actual[known], expected[known]
    if not np.isfinite(actual).all():
        return _NOT_FINITE
    error = float(np.sqrt(np.mean(np.square(actual - expected, dtype=np.float64))))
    spread = float(expected.std(dtype=np.float64))
    size = spread if spread > 0 else float(np.abs(expected).max())
    return min(error / max(size + 2 * step, float(np.finfo(np.float32).tiny)), _NOT_FINITE)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
