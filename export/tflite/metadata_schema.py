"""Tables of TensorFlow Lite's metadata schema, written without generated code.

The schema (metadata_schema.fbs 1.5.0 and image_segmenter_metadata_schema.fbs 1.0.0 of
MediaPipe) ships with no package that this one needs, so the tables in use stand here:
a field's place in its list is its slot in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

#: Fields of every table in use, in the schema's order. A union takes two: type, content.
TABLES = {
    "ModelMetadata": (
        "name", "description", "version", "subgraph_metadata", "author", "license",
        "associated_files", "min_parser_version",
    ),
    "SubGraphMetadata": (
        "name", "description", "input_tensor_metadata", "output_tensor_metadata",
        "associated_files", "input_process_units", "output_process_units",
        "input_tensor_groups", "output_tensor_groups", "custom_metadata",
    ),
    "TensorMetadata": (
        "name", "description", "dimension_names", "content", "process_units", "stats",
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties", "range"),
    "ImageProperties": ("color_space", "default_size"),
    "ImageSize": ("width", "height"),
    "ValueRange": ("min", "max"),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "CustomMetadata": ("name", "data"),
    "ImageSegmenterOptions": ("activation", "min_parser_version"),
}  # fmt: skip
#: What the schema asks of CustomMetadata.data (``force_align: 16``).
_DATA_ALIGNMENT = 16


@dataclass(frozen=True)
class Table:
    """A table of the schema before it is written.

    Attributes:
        name: a key of :data:`TABLES`.
        fields: by name; a value is a NumPy scalar of the schema's width, a text, bytes,
            a table, a tuple of tables, or a tuple of floats.
    """

    name: str
    fields: dict[str, Any]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.fields) - set(TABLES[self.name]))
        if unknown:
            raise ValueError(f"{self.name} has no field {', '.join(unknown)}")


def encode(root: Table, identifier: bytes) -> bytes:
    """A flatbuffer with ``root`` as its root table; equal objects are written once."""
    writer = _Writer()
    offset = writer.table(root)
    writer.builder.Finish(offset, identifier)
    return bytes(writer.builder.Output())


class _Writer:
    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.known: dict[Any, int] = {}

    def table(self, table: Table) -> int:
        # Objects that a table points to are written before it: a flatbuffer grows backwards.
        fields = {
            name: value if isinstance(value, np.generic) else self.object(value)
            for name, value in table.fields.items()
        }
        key = (table.name, *((name, str(value)) for name, value in fields.items()))
        if key not in self.known:
            slots = TABLES[table.name]
            self.builder.StartObject(max((slots.index(name) + 1 for name in fields), default=0))
            for name, value in fields.items():
                slot = slots.index(name)
                if isinstance(value, np.generic):
                    prepend = getattr(self.builder, f"Prepend{_KINDS[value.dtype.name]}Slot")
                    prepend(slot, value.item(), 0)
                else:
                    self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            self.known[key] = self.builder.EndObject()
        return self.known[key]

    def object(self, value: Any) -> int:
        """Offset of whatever is not a number."""
        if isinstance(value, Table):
            return self.table(value)
        if isinstance(value, tuple) and value and isinstance(value[0], Table):
            offsets = [self.table(part) for part in value]
            self.builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                self.builder.PrependUOffsetTRelative(offset)
            return int(self.builder.EndVector())
        if value not in self.known:
            self.known[value] = self.leaf(value)
        return self.known[value]

    def leaf(self, value: str | bytes | tuple[float, ...]) -> int:
        if isinstance(value, str):
            return int(self.builder.CreateString(value))
        if isinstance(value, tuple):
            return int(self.builder.CreateNumpyVector(np.array(value, np.float32)))
        self.builder.StartVector(1, len(value), _DATA_ALIGNMENT)
        self.builder.head -= len(value)
        self.builder.Bytes[self.builder.Head() : self.builder.Head() + len(value)] = value
        return int(self.builder.EndVector())


_KINDS = {"int8": "Int8", "uint8": "Uint8", "int32": "Int32", "uint32": "Uint32"}
