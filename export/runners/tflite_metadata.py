"""The contract inside a TFLite file: the metadata entry EGEUNET_CONTRACT, JSON in a buffer."""

from __future__ import annotations

from pathlib import Path

from egeunet.export.runners.runner import first_line
from egeunet.model.errors import InputError, needs_extra

#: Name of the metadata entry.
CONTRACT_ENTRY = "EGEUNET_CONTRACT"
_IDENTIFIER = b"TFL3"


def contract_text(path: Path, data: bytes) -> str | None:
    """The contract's JSON text in the bytes of a TFLite file; None where it has none.

    ``path`` is for messages only. Every access is bounds-checked by Python, so
    damaged bytes end in an error and never in a crash.

    Raises:
        InputError: not a TFLite file, or one whose tables point outside of it.
    """
    if len(data) < 8 or data[4:8] != _IDENTIFIER:
        seen = bytes(data[4:8])
        raise InputError(
            f"{path}: not a TFLite file: {len(data)} bytes, expected {_IDENTIFIER!r} "
            f"at byte 4, got {seen!r}"
        )
    with needs_extra("tflite"):
        from ai_edge_litert.schema_py_generated import Model
    try:
        model = Model.GetRootAs(data, 0)
        entries, buffers = model.MetadataLength(), model.BuffersLength()
        if max(entries, buffers) > len(data) // 4:  # each entry takes at least an offset
            raise ValueError(f"{entries} metadata entries and {buffers} buffers")
        for index in range(entries):
            entry = model.Metadata(index)
            if (entry.Name() or b"").decode() == CONTRACT_ENTRY:
                if not entry.Buffer() < buffers:
                    raise ValueError(f"metadata in buffer {entry.Buffer()} of {buffers}")
                return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    except Exception as error:
        message = first_line(error)
        raise InputError(f"{path}: damaged TFLite file ({message}); export it again") from error
    return None
