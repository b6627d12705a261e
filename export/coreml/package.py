"""Read a Core ML package: its program, its constants, its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from egeunet.export.coreml.toolkit import coremltools


class Package:
    """A saved ML program with one input and one output.

    Attributes:
        specification: coremltools' ``Model`` message.
        input_name, output_name: of the package's only input and output.
        metadata: the user-defined metadata.
    """

    def __init__(self, path: Path) -> None:
        ct = coremltools()
        self._types = ct.proto.MIL_pb2.DataType
        self._content = path / "Data" / "com.apple.CoreML"
        self.specification: Any = ct.utils.load_spec(str(path))
        description = self.specification.description
        (source,), (result,) = description.input, description.output
        self.input_name, self.output_name = str(source.name), str(result.name)
        self.metadata = dict(description.metadata.userDefined)

    def operations(self) -> list[Any]:
        """The program's operations in order, ``const`` included."""
        (function,) = self.specification.mlProgram.functions.values()
        (block,) = function.block_specializations.values()
        return list(block.operations)

    def constant(self, operation: Any) -> Any:
        """Content of a ``const``: a float32 tensor, a NumPy array of integers or flags, or a
        string; float16 is widened."""
        return self._value(operation.attributes["val"])

    def attributes(self, operation: Any) -> dict[str, Any]:
        """Like :meth:`constant`, all that a constant expression has as its arguments."""
        return {
            key: self._value(value) for key, value in operation.attributes.items() if key != "name"
        }

    def _value(self, value: Any) -> Any:
        kind = value.type.tensorType.dataType
        shape = _shape(value.type)
        if value.HasField("blobFileValue"):
            data = self.stored(value.blobFileValue, kind)
        else:
            data = _immediate(value.immediateValue.tensor, kind, self._types)
        if kind == self._types.STRING:
            return str(data[0])
        if kind in (self._types.FLOAT16, self._types.FLOAT32):
            return torch.from_numpy(data.astype(np.float32).reshape(shape))
        return data.reshape(shape)

    def stored(self, reference: Any, kind: int) -> np.ndarray[Any, Any]:
        """A tensor of the weight file, flat, in the type it is stored as."""
        from coremltools.libmilstoragepython import _BlobStorageReader

        relative = reference.fileName.removeprefix("@model_path/")
        reader = _BlobStorageReader(str(self._content / relative))
        if kind == self._types.FLOAT32:
            return np.array(reader.read_float_data(reference.offset), np.float32)
        if kind == self._types.FLOAT16:
            return np.array(reader.read_fp16_data(reference.offset), np.uint16).view(np.float16)
        if kind == self._types.INT8:
            return np.array(reader.read_int8_data(reference.offset), np.int8)
        if kind == self._types.UINT8:
            return np.array(reader.read_uint8_data(reference.offset), np.uint8)
        raise NotImplementedError(f"type {self._types.Name(kind)} in a weight file")

    def shape(self, output: Any) -> tuple[int, ...]:
        """Declared shape of a value."""
        return _shape(output.type)

    def is_float16(self, output: Any) -> bool:
        """Whether a value is declared float16."""
        return bool(output.type.tensorType.dataType == self._types.FLOAT16)


def _shape(kind: Any) -> tuple[int, ...]:
    return tuple(int(side.constant.size) for side in kind.tensorType.dimensions)


def _immediate(tensor: Any, kind: int, types: Any) -> np.ndarray[Any, Any]:
    in_bytes = {
        types.FLOAT16: np.float16,
        types.INT8: np.int8,
        types.UINT8: np.uint8,
        types.UINT32: np.uint32,
    }
    if kind in in_bytes:
        return np.frombuffer(tensor.bytes.values, in_bytes[kind])
    fields = {
        types.FLOAT32: ("floats", np.float32),
        types.INT32: ("ints", np.int32),
        types.BOOL: ("bools", np.bool_),
        types.STRING: ("strings", np.str_),
    }
    if kind not in fields:
        raise NotImplementedError(f"type {types.Name(kind)} in the program text")
    field, dtype = fields[kind]
    return np.array(getattr(tensor, field).values, dtype)
