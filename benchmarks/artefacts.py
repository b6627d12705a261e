"""The files that egeunet-bench measures when none is named: found in build/, or exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from egeunet.benchmarks.candidates import Skip
from egeunet.benchmarks.model_file import exported_from
from egeunet.export.provenance import sha256_of
from egeunet.model.errors import EgeunetError, GateError

#: Format and precision of each, and the file that egeunet-export makes of them.
DEFAULTS = (
    ("tflite", "int8", "egeunet_int8.tflite"),
    ("tflite", "float16", "egeunet_float16.tflite"),
    ("tflite", "float32", "egeunet_float32.tflite"),
    ("onnx", "int8", "egeunet_int8.onnx"),
    ("onnx", "float32", "egeunet_float32.onnx"),
    ("coreml", "float16", "egeunet_float16.mlpackage"),
)
#: The named recipes of the .tflite file, from the smallest numbers to the largest.
RECIPES = tuple(
    ("tflite", precision, f"egeunet_{precision}.tflite")
    for precision in (
        "int4-mixed",
        "int8-tuned",
        "int8-mixed",
        "int8-dynamic",
        "float16",
        "float32",
    )
)
#: Stands for the runtime of a file that could not be made, or was made and did not pass the
#: exporter's gates.
NOT_MADE, NOT_KEPT = "export", "export gate"


def artefacts_of(
    weights: Path,
    out: Path,
    formats: Sequence[tuple[str, str, str]] = DEFAULTS,
    step: Callable[[str], None] = lambda name: None,
) -> tuple[list[Path], list[Skip]]:
    """The exported files of some weights; those that are there already are not made again.

    A file counts as there if its report names these weights, these very bytes and this
    version. One of other weights stays as it is: ours goes into a folder named after the
    weights.

    Args:
        weights: the weights file.
        out: where files are looked for and written.
        formats: (format, precision, file name) of each.
        step: told a file's name before it is made or taken.
    """
    digest = sha256_of(weights)
    made_now = (digest, metadata.version("egeunet-mobile"))
    files, missing = [], []
    for format, precision, name in formats:
        step(name)
        here, apart = out / name, out / f"weights-{digest[:12]}" / name
        found = next((path for path in (here, apart) if exported_from(path) == made_now), None)
        if found is None:
            ours = exported_from(here)
            path = here if not here.exists() or (ours and ours[0] == digest) else apart
            try:
                found = _exported(format, precision, weights, path.parent)
            except EgeunetError as error:
                stage = NOT_KEPT if isinstance(error, GateError) else NOT_MADE
                missing.append(Skip(stage, name, " ".join(str(error).split())))
                continue
        files.append(found)
    return files, missing


def _exported(format: str, precision: str, weights: Path, out: Path) -> Path:
    from egeunet.export import export

    return export(format, precision, weights=weights, out=out).path
