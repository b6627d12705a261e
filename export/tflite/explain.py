"""Where the bytes of a .tflite file are: a walk over every object of its flatbuffer.

Each object marks the bytes it takes, and a byte belongs to whoever marks it first, so
an object that many share counts once and the kinds add up to the file exactly.
Fields are named by their slots in TensorFlow Lite's schema (schema.fbs, version 3).
"""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np

#: In this order in every report. ``buffers`` are the tables around the constants and the
#: metadata, ``model`` the tables of model, subgraphs and signatures, ``vtables`` say where
#: a table's fields are, ``padding`` is what nothing points to (and the file's header).
KINDS = (
    "weights", "biases", "other constants", "quantization", "tensors", "operators", "options",
    "names", "metadata", "buffers", "model", "vtables", "padding",
)  # fmt: skip
#: Builtin code -> which inputs are its weights and its bias.
_WEIGHTED = {3: (1, 2), 4: (1, 2), 9: (1, 2), 67: (1, 3)}  # conv, depthwise, dense, transposed
_DEQUANTIZE, _CUSTOM = 6, 32
#: Option tables whose first field is a vector of int32; the others hold numbers only.
_VECTOR_OPTIONS = {17, 30}  # ReshapeOptions, SqueezeOptions


def explain_tflite(data: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes by kind, and operators by type (names of the schema's BuiltinOperator).

    Raises:
        ValueError, struct.error, IndexError: damaged; an object lies outside of the file.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    if data[4:8] != b"TFL3":
        raise ValueError(f"expected b'TFL3' at byte 4, got {data[4:8]!r}")
    walk = _Walk(data)
    walk.model()
    counts = np.bincount(walk.owner, minlength=len(KINDS) + 1)
    sizes = dict(zip(KINDS, map(int, counts[1:]), strict=True))
    sizes["padding"] += int(counts[0])
    names = {code: name for name, code in vars(BuiltinOperator).items() if name.isupper()}
    kinds = Counter(names.get(code, f"code {code}") for code in walk.used)
    return sizes, dict(sorted(kinds.items()))


class _Table:
    """A table of the file; its own bytes and its vtable are marked."""

    def __init__(self, walk: _Walk, position: int, kind: str) -> None:
        self.walk, self.position = walk, position
        self.vtable = position - walk.number("i", position)
        self.slots, size = walk.number("H", self.vtable), walk.number("H", self.vtable + 2)
        walk.mark(position, size, kind)
        walk.mark(self.vtable, self.slots, "vtables")

    def field(self, slot: int) -> int | None:
        """Position of a field, None where it is left out."""
        entry = 4 + 2 * slot
        offset = self.walk.number("H", self.vtable + entry) if entry < self.slots else 0
        return self.position + offset if offset else None

    def number(self, slot: int, form: str) -> int:
        """An integer field, 0 where it is left out."""
        at = self.field(slot)
        return 0 if at is None else self.walk.number(form, at)

    def object(self, slot: int) -> int | None:
        """Position of what an offset field points to."""
        at = self.field(slot)
        return None if at is None else at + self.walk.number("I", at)

    def vector(self, slot: int, item: int, kind: str, lead: str | None = None) -> tuple[int, int]:
        """Mark a vector of items of ``item`` bytes; position of the first, and how many."""
        at = self.object(slot)
        if at is None:
            return 0, 0
        count = self.walk.number("I", at)
        self.walk.mark(at, 4, lead or kind)
        self.walk.mark(at + 4, count * item, kind)
        return at + 4, count

    def numbers(self, slot: int, kind: str) -> list[int]:
        """A vector of int32."""
        first, count = self.vector(slot, 4, kind)
        return list(struct.unpack_from(f"<{count}i", self.walk.data, first)) if count else []

    def tables(self, slot: int, kind: str, lead: str | None = None) -> list[_Table]:
        """A vector of tables of one kind."""
        first, count = self.vector(slot, 4, lead or kind)
        places = (first + 4 * index for index in range(count))
        return [_Table(self.walk, at + self.walk.number("I", at), kind) for at in places]

    def text(self, slot: int, kind: str = "names") -> None:
        """Mark a string with its length and its closing zero."""
        at = self.object(slot)
        if at is not None:
            self.walk.mark(at, 4 + self.walk.number("I", at) + 1, kind)


class _Walk:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.owner = np.zeros(len(data), np.uint8)  # 0 = nobody, else 1 + index in KINDS
        self.used: list[int] = []  # the builtin code of every operator
        self.roles: dict[int, str] = {}  # buffer index -> kind of its data

    def number(self, form: str, at: int) -> int:
        if at < 0:  # struct would count from the end
            raise ValueError(f"an object at byte {at}")
        return int(struct.unpack_from("<" + form, self.data, at)[0])

    def mark(self, begin: int, size: int, kind: str) -> None:
        if begin < 0 or begin + size > len(self.data):
            raise ValueError(f"{kind} at bytes {begin}..{begin + size} of {len(self.data)}")
        span = self.owner[begin : begin + size]
        span[span == 0] = 1 + KINDS.index(kind)

    def model(self) -> None:
        model = _Table(self, self.number("I", 0), "model")
        codes = []
        for code in model.tables(1, "operators"):
            code.text(1)
            codes.append(max(code.number(0, "b"), code.number(3, "i")))
        for entry in model.tables(6, "metadata"):
            entry.text(0, "metadata")
            self.roles[entry.number(1, "I")] = "metadata"
        for graph in {graph.position: graph for graph in model.tables(2, "model")}.values():
            self.subgraph(graph, codes)
        for signature in model.tables(7, "model"):
            for end in (*signature.tables(0, "model"), *signature.tables(1, "model")):
                end.text(0)
            signature.text(2)
        model.text(3)
        model.vector(5, 4, "metadata")
        for index, buffer in enumerate(model.tables(4, "buffers")):
            kind = self.roles.get(index, "other constants")
            buffer.vector(0, 1, kind, "buffers")
            if buffer.number(1, "Q") > 1:  # data behind the flatbuffer, for files beyond 2 GB
                self.mark(buffer.number(1, "Q"), buffer.number(2, "Q"), kind)

    def subgraph(self, graph: _Table, codes: list[int]) -> None:
        buffers = [self.tensor(tensor) for tensor in graph.tables(0, "tensors")]
        graph.vector(1, 4, "model")
        graph.vector(2, 4, "model")
        graph.text(4)
        stored: dict[int, int] = {}  # output of a dequantize -> what it was made of
        for operator in graph.tables(3, "operators"):
            code = codes[operator.number(0, "I")]
            self.used.append(code)
            inputs = operator.numbers(1, "operators")
            outputs = operator.numbers(2, "operators")
            self.options(operator)
            if code == _DEQUANTIZE:
                stored[outputs[0]] = inputs[0]
            for place, kind in zip(_WEIGHTED.get(code, ()), ("weights", "biases"), strict=False):
                if place < len(inputs) and inputs[place] >= 0:
                    tensor = stored.get(inputs[place], inputs[place])
                    self.roles.setdefault(buffers[tensor], kind)

    def tensor(self, tensor: _Table) -> int:
        """Mark what a tensor points to; the index of its buffer."""
        tensor.vector(0, 4, "tensors")
        tensor.vector(7, 4, "tensors")
        tensor.text(3)
        at = tensor.object(4)
        if at is not None:
            quantization = _Table(self, at, "quantization")
            for slot, item in ((0, 4), (1, 4), (2, 4), (3, 8)):  # min, max, scale, zero point
                quantization.vector(slot, item, "quantization")
        return tensor.number(2, "I")

    def options(self, operator: _Table) -> None:
        for kind, slot in ((3, 4), (11, 12)):  # builtin_options, builtin_options_2
            at = operator.object(slot)
            if at is not None:
                table = _Table(self, at, "options")
                if kind == 3 and operator.number(kind, "B") in _VECTOR_OPTIONS:
                    table.vector(0, 4, "options")
        operator.vector(5, 1, "options")  # custom_options
        operator.vector(8, 4, "operators")  # intermediates
