"""Input and output of an .onnx file: float32, or integers whose scales stand in its metadata.

ONNX has no quantized types: a uint8 input is a number 0..255, and what it stands for is
only known behind the operator that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from egeunet.export.onnx.emit import QUANTIZATION_KEY
from egeunet.export.runners.tensor_port import DTYPES, TensorPort
from egeunet.model.errors import InputError

#: ONNX Runtime's names of types, where they are not numpy's.
_FLOAT = "float"


def onnx_port(
    path: Path, side: str, name: str, type_name: str, metadata: Mapping[str, str]
) -> TensorPort:
    """The port of a side of a file.

    Args:
        path: for messages.
        side: ``input`` or ``output``.
        name: of the tensor, for messages.
        type_name: its type as ONNX Runtime (``tensor(float)``) or numpy has it.
        metadata: of the file.

    Raises:
        InputError: another type, or integers without a usable scale.
    """
    dtype = type_name.removeprefix("tensor(").removesuffix(")")
    dtype = "float32" if dtype == _FLOAT else dtype
    if dtype not in DTYPES:
        raise InputError(
            f"{path}: {side} {name!r} is {type_name}, expected one of {', '.join(DTYPES)}"
        )
    if dtype == "float32":
        return TensorPort(0, (), dtype)
    try:
        entry = json.loads(metadata[QUANTIZATION_KEY])[side]
        return TensorPort(0, (), dtype, float(entry["scale"]), int(entry["zero_point"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, InputError) as error:
        raise InputError(
            f"{path}: {side} {name!r} is {dtype} and the metadata entry {QUANTIZATION_KEY!r} does "
            f"not say what it stands for ({type(error).__name__}: {error}); export it again"
        ) from error
