"""A flatbuffer builder that writes every distinct object once.

Converters write the same shape vector, option table or scale vector again for each
tensor and operator, which for a network of 53 thousand weights costs more than the
weights. A flatbuffer may share them: an offset can be pointed to from many places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

#: What the schema asks of constant data (``force_align: 16``); small ones load with 4.
_DATA_ALIGNMENT = 16


class SharingBuilder:
    """Builds tables of the TFLite schema; equal content gives the same offset."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1 << 16)
        self._known: dict[tuple[Any, ...], int] = {}

    def table(self, name: str, **fields: Any) -> int:
        """A table of the schema's type ``name``; fields in the schema's camel case.

        A value is a scalar, or the offset of an object made before; None is left out.
        """
        given = {key: value for key, value in fields.items() if value is not None}
        key = (name, *sorted(given.items()))
        if key not in self._known:
            getattr(schema, f"{name}Start")(self._builder)
            for field, value in given.items():
                getattr(schema, f"{name}Add{field}")(self._builder, value)
            self._known[key] = getattr(schema, f"{name}End")(self._builder)
        return self._known[key]

    def vector(self, values: Sequence[Any] | NDArray[Any], dtype: str) -> int:
        """A vector of numbers of a NumPy dtype."""
        array = np.ascontiguousarray(values, dtype=dtype)
        key = ("vector", dtype, array.tobytes())
        if key not in self._known:
            self._known[key] = self._builder.CreateNumpyVector(array)
        return self._known[key]

    def data(self, data: bytes, alignment: int = _DATA_ALIGNMENT) -> int:
        """A vector of bytes whose first one is aligned."""
        key = ("data", alignment, data)
        if key not in self._known:
            self._builder.StartVector(1, len(data), alignment)
            self._builder.head -= len(data)
            self._builder.Bytes[self._builder.Head() : self._builder.Head() + len(data)] = data
            self._known[key] = self._builder.EndVector()
        return self._known[key]

    def text(self, text: str) -> int:
        """A string."""
        key = ("text", text)
        if key not in self._known:
            self._known[key] = self._builder.CreateString(text)
        return self._known[key]

    def tables(self, offsets: Sequence[int]) -> int:
        """A vector of tables or strings."""
        key = ("tables", *offsets)
        if key not in self._known:
            self._builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                self._builder.PrependUOffsetTRelative(offset)
            self._known[key] = self._builder.EndVector()
        return self._known[key]

    def finish(self, root: int, identifier: bytes) -> bytes:
        """The finished file."""
        self._builder.Finish(root, identifier)
        return bytes(self._builder.Output())
