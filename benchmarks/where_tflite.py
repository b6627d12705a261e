"""The tensors of a .tflite file beside the values of the graph that it was written from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egeunet.benchmarks.litert_builtin import LiteRTBuiltinRunner
from egeunet.benchmarks.where import Observed, Tensor, no_match
from egeunet.export.graph import Graph
from egeunet.export.request import OPTIMIZATIONS
from egeunet.export.runners.runner import Pixels, first_line
from egeunet.export.splits import channel_splits
from egeunet.model.errors import InputError, needs_extra

if TYPE_CHECKING:
    from egeunet.model.contract import ModelContract
    from egeunet.model.egeunet import EGEUNet

#: Put between operators by a precision; the graph of the reference has none.
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Operator:
    """An operator of a file: its builtin's name, its outputs' tensor numbers and shapes."""

    name: str
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two files of one graph have in common."""
        return self.name, self.shapes


def observe_tflite(path: Path, model: EGEUNet, contract: ModelContract, images: Pixels) -> Observed:
    """Run a file with LiteRT's own kernels, which keep every tensor.

    Raises:
        InputError: its operators, apart from conversions between types, are not those of
            either form of the graph.
    """
    graph, indices = _matched(path, model, contract)
    tensors = _run(path, indices, images)
    tensors[graph.input] = Tensor("input", contract.normalize(images))
    return Observed(graph, tensors)


def operators_of(data: bytes) -> list[Operator]:
    """The operators of a file in order, without conversions between types."""
    with needs_extra("tflite"):
        from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    file = schema.Model.GetRootAs(data, 0)
    graph = file.Subgraphs(0)
    codes = [file.OperatorCodes(i) for i in range(file.OperatorCodesLength())]
    builtins = [max(code.DeprecatedBuiltinCode(), code.BuiltinCode()) for code in codes]
    found = []
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        name = names[builtins[operator.OpcodeIndex()]]
        if name not in _CONVERSIONS:
            outputs = tuple(int(index) for index in operator.OutputsAsNumpy())
            shapes = (graph.Tensors(index).ShapeAsNumpy() for index in outputs)
            found.append(Operator(name, outputs, tuple(tuple(map(int, s)) for s in shapes)))
    return found


def tensor_numbers(graph: Graph, operators: list[Operator]) -> dict[str, int]:
    """The tensor that each value of the graph became, for operators in the graph's order."""
    splits, remaining = channel_splits(graph), iter(operators)
    numbers: dict[str, int] = {}
    for node in graph.nodes:
        if node.output in numbers:
            continue  # one SPLIT has made several slices
        operator = next(remaining)
        nodes = splits[node.inputs[0]] if operator.name == "SPLIT" else [node]
        outputs = zip(nodes, operator.outputs, strict=True)
        numbers.update({each.output: index for each, index in outputs})
    return numbers


def _matched(path: Path, model: EGEUNet, contract: ModelContract) -> tuple[Graph, dict[str, int]]:
    from egeunet.export.lean import build_lean_graph
    from egeunet.export.tflite.emit import emit_tflite

    try:
        operators = operators_of(path.read_bytes())
    except Exception as error:  # damaged bytes provoke anything
        raise InputError(f"{path}: damaged TFLite file ({first_line(error)})") from error
    for optimize in OPTIMIZATIONS:
        graph = build_lean_graph(model, contract, optimize)
        wanted = operators_of(emit_tflite(graph, contract, "none"))
        if [each.kind for each in wanted] == [each.kind for each in operators]:
            return graph, tensor_numbers(graph, operators)
    raise no_match(path)


def _run(path: Path, indices: dict[str, int], images: Pixels) -> dict[str, Tensor]:
    runner = LiteRTBuiltinRunner(path, threads=1, keep_all=True)
    ports = runner.ports()
    wanted = {name: ports[index] for name, index in indices.items() if index in ports}
    runs = [runner.tensors(image[None], wanted.values()) for image in images]
    return {
        name: Tensor(
            f"tensor {port.index}",
            np.concatenate([run[port.index] for run in runs]),
            0.0 if port.dtype == "float32" else port.scale,
        )
        for name, port in wanted.items()
    }
