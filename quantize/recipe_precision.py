"""int8 files from the recipe of a fine-tuning, instead of from the float weights alone."""

from __future__ import annotations

from pathlib import Path

from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.model.errors import InputError
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.packed import pack
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.scale_ties import float_outputs


def int8_from_recipe(path: Path, source: Source, request: ExportRequest) -> Prepared:
    """The integer graph that a fine-tuning ended with: static norms, no float operator.

    Args:
        path: written by ``egeunet-quantize finetune``.
        source: the reference that the recipe was distilled from.
        request: decides the types of input and output.

    Raises:
        InputError: not a recipe; one of other weights or another size; not for TFLite.
    """
    recipe = StaticRecipe.load(path)
    calibration = recipe.calibration
    if request.format != "tflite":
        raise InputError(f"{path}: a recipe is for --format tflite, not for {request.format}")
    if calibration.weights_sha256 != source.sha256:
        raise InputError(
            f"{path}: a recipe of weights {calibration.weights_sha256[:12]}, not of "
            f"{source.weights} ({source.sha256[:12]}); fine-tune for these weights"
        )
    if recipe.contract != source.contract:
        raise InputError(
            f"{path}: a recipe for {recipe.contract.height} x {recipe.contract.width} and "
            f"normalization {recipe.contract.normalization!r}, but asked for is "
            f"{source.contract.height} x {source.contract.width}, "
            f"{source.contract.normalization!r}; fine-tune for that"
        )
    try:
        graph = recipe.graph()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    quantized = quantize_int8(
        graph,
        calibration,
        source.contract,
        request.io_type,
        float_outputs(graph),
        kernel_scales=recipe.form.kernel_scales,
    )
    details = {
        "norms": "static",
        "form": recipe.form.to_dict(),
        "finetuning": recipe.details,
        **calibration.summary(),
    }
    return Prepared(pack(quantized), details)
