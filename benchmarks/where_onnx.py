"""The tensors of an .onnx file beside the values of the graph that it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egeunet.benchmarks.where import Observed, Tensor, no_match
from egeunet.export.graph import Graph
from egeunet.export.request import OPTIMIZATIONS
from egeunet.export.runners.runner import Pixels, first_line
from egeunet.model.errors import InputError, needs_extra

if TYPE_CHECKING:
    from egeunet.model.contract import ModelContract
    from egeunet.model.egeunet import EGEUNet

#: Stands between a weight in float16 and the operator that uses it.
_CONVERSION = "Cast"
_FATAL_ONLY = 4


def observe_onnx(path: Path, model: EGEUNet, contract: ModelContract, images: Pixels) -> Observed:
    """Run a file with ONNX Runtime with every value of the graph as one more output.

    Raises:
        InputError: it cannot be read, or its operators are not those of either form of the
            graph.
    """
    with needs_extra("onnx"):
        import onnx
    try:
        file = onnx.load(path)
        onnx.checker.check_model(file)
    except Exception as error:  # damaged bytes provoke anything
        raise InputError(f"{path}: damaged ONNX file ({first_line(error)})") from error
    graph, names = _matched(path, file, model, contract)
    normalized = contract.normalize(images)
    tensors = _run(path, file, names, normalized)
    tensors[graph.input] = Tensor("input", normalized)
    return Observed(graph, tensors)


def _matched(
    path: Path, file: Any, model: EGEUNet, contract: ModelContract
) -> tuple[Graph, dict[str, str]]:
    """The graph, and the file's name of each of its values that is an operator's output."""
    from egeunet.export.onnx.builder import OnnxBuilder
    from egeunet.export.onnx.emit import INPUT_NAME, lowered
    from egeunet.export.onnx.form import build_onnx_graph

    nodes = [node for node in file.graph.node if node.op_type != _CONVERSION]
    for optimize in OPTIMIZATIONS:
        graph = build_onnx_graph(model, contract, optimize)
        written = lowered(OnnxBuilder(graph, INPUT_NAME))
        if [node.op_type for node in written.nodes] != [node.op_type for node in nodes]:
            continue
        there = {
            ours: theirs
            for node, other in zip(written.nodes, nodes, strict=True)
            for ours, theirs in zip(node.output, other.output, strict=True)
        }
        # The last value has taken the output's public name.
        names = {value: there[name] for value, name in written.names.items() if name in there}
        return graph, names | {graph.output: file.graph.output[0].name}
    raise no_match(path)


def _run(path: Path, file: Any, names: dict[str, str], normalized: Any) -> dict[str, Tensor]:
    import onnx

    from egeunet.export.onnx.runtime import onnxruntime

    ort = onnxruntime()
    result = file.graph.output[0].name
    for name in dict.fromkeys(names.values()):
        if name != result:
            file.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    wanted = list(dict.fromkeys(names.values()))
    try:
        session = ort.InferenceSession(
            file.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        source = session.get_inputs()[0].name
        runs = [
            session.run(wanted, {source: np.ascontiguousarray(image[None].transpose(0, 3, 1, 2))})
            for image in normalized
        ]
    except Exception as error:
        raise InputError(f"{path}: ONNX Runtime cannot run it ({first_line(error)})") from error
    contents = {
        name: np.concatenate([run[index] for run in runs]) for index, name in enumerate(wanted)
    }
    return {
        value: Tensor(name, contents[name].transpose(0, 2, 3, 1))
        for value, name in names.items()
        if contents[name].ndim == 4
    }
