"""Write a graph as a Core ML package."""

from __future__ import annotations

import io
import json
import uuid
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.export.coreml.builder import MilBuilder
from egeunet.export.coreml.compression import COMPRESSIONS
from egeunet.export.coreml.operators import LOWERINGS, split
from egeunet.export.coreml.toolkit import coremltools
from egeunet.export.graph import Graph
from egeunet.export.splits import channel_splits
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

#: The user-defined metadata entry that carries the contract as JSON.
CONTRACT_KEY = "egeunet.contract"
INPUT_NAME, OUTPUT_NAME = "image", "probability"
#: Of the arithmetic; compressed weights are expanded to float16.
PRECISIONS: dict[str, type[np.floating[Any]]] = {
    "float32": np.float32,
    "float16": np.float16,
    **dict.fromkeys(COMPRESSIONS, np.float16),
}
_DESCRIPTION = (
    "EGE-UNet: lesion probability of every pixel of a dermoscopy image. "
    "For research; not a medical device."
)


def emit_coreml(graph: Graph, contract: ModelContract, path: Path, precision: str) -> None:
    """Save an ML program for iOS 16 / macOS 13 and later; runs on Apple's systems only.

    Input ``image``: for the normalization ``unit`` an RGB image of the contract's size,
    which the program divides by 255; for ``minmax255``, which needs the range of the whole
    image, a (1, 3, H, W) float32 array normalized before (``ModelContract.normalize``).
    Output ``probability``: (1, classes, H, W) float32, 0..1.

    Args:
        graph: of float32 operators, norms whole.
        contract: embedded as metadata entry ``egeunet.contract``.
        path: the package, with suffix ``.mlpackage``; see :func:`egeunet.model.atomic.replacing`.
        precision: of weights and activations inside, ``float32`` or ``float16``; or
            ``linear8``, ``palettized6``, ``palettized4``: kernels and gates in so many bits,
            the rest float16 (see :mod:`egeunet.export.coreml.compression`).

    Raises:
        InputError: another precision, or a weight beyond the range of float16.
        NotImplementedError: an operator or a type that has no lowering.
        MissingExtraError: coremltools is not installed.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise InputError(f"Core ML packages are written in {known}, got precision {precision!r}")
    ct = coremltools()
    program = _program(ct, graph, precision)
    _, height, width, channels = graph.values[graph.input].shape
    shape = (1, channels, height, width)
    if contract.normalization == "unit":
        source = ct.ImageType(INPUT_NAME, shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)
    else:
        source = ct.TensorType(INPUT_NAME, shape, dtype=np.float32)
    with redirect_stderr(io.StringIO()):  # progress bars; what goes wrong is raised
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[source],
            minimum_deployment_target=ct.target.iOS16,
            # The program has its types already, and is as small as the passes could make it.
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    _describe(model, contract)
    model.save(str(path))
    _make_reproducible(path, model.get_spec())


def _program(ct: Any, graph: Graph, precision: str) -> Any:
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

    dtype = PRECISIONS[precision]
    n, height, width, channels = graph.values[graph.input].shape
    spec = Builder.TensorSpec(shape=(n, channels, height, width), dtype=types.fp32)

    # The argument's name becomes the input's.
    @Builder.program(input_specs=[spec], opset_version=ct.target.iOS16)  # type: ignore[untyped-decorator]
    def program(image: Any) -> Any:
        b = MilBuilder(graph, dtype, COMPRESSIONS.get(precision))
        half = dtype is np.float16
        b.values[graph.input] = b.add("cast", x=image, dtype="fp16") if half else image
        _append_nodes(b)
        result = b.values[graph.output]
        if half:
            result = b.add("cast", x=result, dtype="fp32")
        result.op.name = result.name = OUTPUT_NAME
        return result

    return program


def _append_nodes(b: MilBuilder) -> None:
    splits = channel_splits(b.graph)
    for node in b.graph.nodes:
        if node.output in b.values:
            continue  # a split has made it
        dtype = b.graph.values[node.output].dtype
        if node.op not in LOWERINGS or dtype != "float32":
            raise NotImplementedError(
                f"no Core ML lowering of operator {node.op!r} with type {dtype}"
            )
        if node.op == "slice" and node.inputs[0] in splits:
            parts = splits[node.inputs[0]]
            b.values.update(zip((part.output for part in parts), split(b, parts), strict=True))
        else:
            b.values[node.output] = LOWERINGS[node.op](b, node)


def _describe(model: Any, contract: ModelContract) -> None:
    model.author = "egeunet-mobile"
    model.license = "Apache-2.0"
    model.version = version("egeunet-mobile")
    model.short_description = _DESCRIPTION
    model.user_defined_metadata[CONTRACT_KEY] = json.dumps(
        contract.to_dict(), separators=(",", ":")
    )
    # The day of the export would make equal packages differ.
    model.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)
    size = f"{contract.width} x {contract.height}"
    model.input_description[INPUT_NAME] = (
        f"RGB image, squashed to {size}."
        if contract.normalization == "unit"
        else f"(1, 3, {contract.height}, {contract.width}), RGB, min-max of the image to 0..255."
    )
    model.output_description[OUTPUT_NAME] = f"{contract.output}, 0..1, {size}."


def _make_reproducible(path: Path, specification: Any) -> None:
    """Leave nothing to chance: the order of the program's maps, the items' identifiers."""
    program = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    program.write_bytes(specification.SerializeToString(deterministic=True))
    manifest = json.loads((path / "Manifest.json").read_text())
    fixed = {
        identifier: str(uuid.uuid5(uuid.NAMESPACE_URL, f"egeunet-mobile/{item['path']}")).upper()
        for identifier, item in manifest["itemInfoEntries"].items()
    }
    items = {fixed[identifier]: item for identifier, item in manifest["itemInfoEntries"].items()}
    manifest["itemInfoEntries"] = items
    manifest["rootModelIdentifier"] = fixed[manifest["rootModelIdentifier"]]
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")
