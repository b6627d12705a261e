"""Write a graph as a .tflite file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from egeunet.export.graph import Graph, Node, Quantization, Value
from egeunet.export.splits import channel_splits
from egeunet.export.tflite.flatbuffer import SharingBuilder
from egeunet.export.tflite.metadata import metadata_entries
from egeunet.export.tflite.operators import LOWERINGS, Lowered
from egeunet.model.contract import ModelContract

SIGNATURE = "serving_default"
INPUT_NAME, OUTPUT_NAME = "image", "probability"
_SCHEMA_VERSION = 3
#: Of an operator: builtin code and version, and the other fields of its table.
_Written = tuple[tuple[int, int], dict[str, Any]]
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
    "int4": schema.TensorType.INT4,
}


def emit_tflite(graph: Graph, contract: ModelContract, metadata: str = "contract") -> bytes:
    """The whole file: one subgraph, one signature, no names but the two of its ends.

    Args:
        graph: of primitive operators (no layer_norm, no group_norm), any mix of types.
        contract: embedded as metadata entry ``EGEUNET_CONTRACT``.
        metadata: ``none``, ``contract`` or ``full``; see :mod:`egeunet.export.tflite.metadata`.
    """
    return _Emitter(graph).file(metadata_entries(contract, metadata))


class _Emitter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.b = SharingBuilder()
        self.buffers: dict[bytes, int] = {b"": 0}
        self.tensors: list[int] = []
        self.index: dict[Any, int] = {}  # value name, or a constant's content -> tensor index
        self.codes: list[tuple[int, int]] = []  # builtin code, version

    def file(self, entries: dict[str, bytes]) -> bytes:
        b, graph = self.b, self.graph
        source = self.tensor(graph.values[graph.input], INPUT_NAME)
        operators = b.tables(self.operators())
        result = self.index[graph.output]
        subgraph = b.table(
            "SubGraph",
            Tensors=b.tables(self.tensors),
            Inputs=b.vector([source], "int32"),
            Outputs=b.vector([result], "int32"),
            Operators=operators,
        )
        ends = [
            b.tables([b.table("TensorMap", Name=b.text(name), TensorIndex=index)])
            for name, index in ((INPUT_NAME, source), (OUTPUT_NAME, result))
        ]
        signature = b.table(
            "SignatureDef", Inputs=ends[0], Outputs=ends[1], SignatureKey=b.text(SIGNATURE)
        )
        metadata = [
            b.table("Metadata", Name=b.text(name), Buffer=self.buffer(content))
            for name, content in entries.items()
        ]
        buffers = [b.table("Buffer", Data=b.data(data) if data else None) for data in self.buffers]
        codes = [self._operator_code(code, version) for code, version in self.codes]
        model = b.table(
            "Model",
            Version=_SCHEMA_VERSION,
            OperatorCodes=b.tables(codes),
            Subgraphs=b.tables([subgraph]),
            Buffers=b.tables(buffers),
            Metadata=b.tables(metadata) if metadata else None,
            SignatureDefs=b.tables([signature]),
        )
        return b.finish(model, b"TFL3")

    def operators(self) -> list[int]:
        """All operators in order; slices that divide a value evenly become one SPLIT."""
        splits = {
            name: nodes
            for name, nodes in channel_splits(self.graph).items()
            if len({node.attributes["count"] for node in nodes}) == 1
        }
        found: list[_Written] = []
        for node in self.graph.nodes:
            parts = splits.get(node.inputs[0], []) if node.op == "slice" else []
            if not parts:
                found.append(self.operator(node))
            elif node.output not in self.index:  # the first of them stands for all
                found.append(self.split(parts))
        # An index of zero takes no bytes: the most frequent has it.
        self.codes = [code for code, _ in Counter(code for code, _ in found).most_common()]
        index = {code: number for number, code in enumerate(self.codes)}
        return [self.b.table("Operator", OpcodeIndex=index[code], **rest) for code, rest in found]

    def split(self, parts: list[Node]) -> _Written:
        """One SPLIT along channels, whose outputs are those of ``parts``."""
        axis = np.array(3, np.int32)
        inputs = [
            self.tensor(Value("axis", (), "int32", axis)),
            self.tensor(self.graph.values[parts[0].inputs[0]]),
        ]
        outputs = [self.tensor(self.graph.values[part.output]) for part in parts]
        options = self.b.table("SplitOptions", NumSplits=len(parts))
        return self.table(Lowered("SPLIT", "SplitOptions", options), parts[0], inputs, outputs)

    def operator(self, node: Node) -> _Written:
        if node.op not in LOWERINGS:
            raise NotImplementedError(f"no TFLite lowering of operator {node.op!r}")
        lowered = LOWERINGS[node.op](self.b, self.graph, node)
        inputs = [self.tensor(self.graph.values[name]) for name in node.inputs]
        for number, data in enumerate(lowered.extra):
            name = f"{node.output}.{number}"
            inputs.append(self.tensor(Value(name, data.shape, str(data.dtype), data)))
        name = OUTPUT_NAME if node.output == self.graph.output else ""
        outputs = [self.tensor(self.graph.values[node.output], name)]
        return self.table(lowered, node, inputs, outputs)

    def table(
        self, lowered: Lowered, node: Node, inputs: list[int], outputs: list[int]
    ) -> _Written:
        """The operator's code, and the other fields of its table in the file."""
        options = getattr(schema.BuiltinOptions, lowered.options) if lowered.options else None
        return self._code(lowered, node), {
            "Inputs": self.b.vector(inputs, "int32"),
            "Outputs": self.b.vector(outputs, "int32"),
            "BuiltinOptionsType": options,
            "BuiltinOptions": lowered.offset or None,
        }

    def tensor(self, value: Value, name: str = "") -> int:
        """Index of the tensor; equal constants are one tensor."""
        key: Any = value.name
        if value.data is not None:
            key = (value.dtype, value.shape, value.data.tobytes(), _key(value.quantization))
        if key not in self.index:
            data = b"" if value.data is None else _content(value.data, value.dtype)
            self.index[key] = len(self.tensors)
            self.tensors.append(
                self.b.table(
                    "Tensor",
                    Shape=self.b.vector(value.shape, "int32"),
                    Type=_TYPES[value.dtype],
                    Buffer=self.buffer(data),
                    Name=self.b.text(name) if name else None,
                    Quantization=self.quantization(value.quantization),
                )
            )
        return self.index[key]

    def quantization(self, quantization: Quantization | None) -> int | None:
        if quantization is None:
            return None
        return self.b.table(
            "QuantizationParameters",
            Scale=self.b.vector(quantization.scale, "float32"),
            ZeroPoint=self.b.vector(quantization.zero_point, "int64"),
            QuantizedDimension=quantization.axis,
        )

    def buffer(self, data: bytes) -> int:
        return self.buffers.setdefault(data, len(self.buffers))

    def _code(self, lowered: Lowered, node: Node) -> tuple[int, int]:
        types = {self.graph.values[name].dtype for name in (*node.inputs, node.output)}
        integer = bool(types & {"int8", "uint8"})
        version = lowered.integer_version if integer else lowered.float_version
        return getattr(schema.BuiltinOperator, lowered.builtin), version

    def _operator_code(self, code: int, version: int) -> int:
        # Codes above 127 do not fit the deprecated byte field, which then says 127.
        return self.b.table(
            "OperatorCode", DeprecatedBuiltinCode=min(code, 127), BuiltinCode=code, Version=version
        )


def _content(data: NDArray[Any], dtype: str) -> bytes:
    """A constant's bytes; two numbers of 4 bits share one, the first in its lower half."""
    if dtype != "int4":
        return data.astype(dtype).tobytes()
    low, high = data.reshape(-1, 2).T.astype(np.uint8) & 15
    return bytes((low | high << 4).astype(np.uint8))


def _key(quantization: Quantization | None) -> tuple[Any, ...] | None:
    if quantization is None:
        return None
    scale, zero_point = np.asarray(quantization.scale), np.asarray(quantization.zero_point)
    return scale.tobytes(), zero_point.tobytes(), quantization.axis
