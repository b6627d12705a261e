"""int8 files from the recipe of a fine-tuning, instead of from the float weights alone."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.model.errors import InputError
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.packed import pack
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.scale_ties import float_outputs


def int8_from_recipe(path: Path, source: Source, request: ExportRequest) -> Prepared:
    """The integer graph that a fine-tuning ended with.

    Args:
        path: written by ``egeunet-quantize finetune``.
        source: the reference that the recipe was distilled from.
        request: decides the types of input and output.

    Raises:
        InputError: not a recipe; one of other weights or another size.
    """
    recipe = StaticRecipe.load(path)
    mismatch = _mismatch(recipe, source)
    if mismatch:
        raise InputError(f"{path}: {mismatch}")
    try:
        return static_int8(recipe, source, request)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def shipped_recipes() -> list[StaticRecipe]:
    """The recipes in the package, by how well they agree with the reference."""
    folder = resources.files("egeunet.quantize") / "shipped"
    with resources.as_file(folder) as path:
        recipes = [StaticRecipe.load(file) for file in sorted(path.glob("*.safetensors"))]
    return sorted(recipes, key=lambda recipe: -recipe.details["mask_iou"])


def shipped_recipes_of(source: Source) -> list[StaticRecipe]:
    """Those of this reference at this size."""
    return [one for one in shipped_recipes() if not _mismatch(one, source)]


def static_int8(recipe: StaticRecipe, source: Source, request: ExportRequest) -> Prepared:
    """The graph of a recipe that is of this reference.

    float32 are what its form says, GELU, norms that stayed dynamic and, in an .onnx file, resizes.

    Raises:
        InputError: a recipe of another version of this package.
    """
    graph, form, calibration = recipe.graph(), recipe.form, recipe.calibration
    tflite = request.format == "tflite"
    quantized = quantize_int8(
        graph,
        calibration,
        source.contract,
        request.io_type,
        float_outputs(graph) if tflite else onnx_float_outputs(graph, trained=True),
        kernel_scales=form.kernel_scales,
        pointwise_bits=form.pointwise_bits,
        four_bit_inputs=form.four_bit_inputs,
        scale_steps=form.scale_steps,
        float_pixels=form.float_pixels,
    )
    details = {
        "norms": "tuned",
        "form": form.to_dict(),
        "finetuning": recipe.details,
        **calibration.summary(),
    }
    return Prepared(pack(quantized, form.optimize) if tflite else quantized, details)


def _mismatch(recipe: StaticRecipe, source: Source) -> str:
    """Why a recipe is not for this reference; empty if it is."""
    sha256, ours, theirs = recipe.calibration.weights_sha256, source.contract, recipe.contract
    if sha256 != source.sha256:
        return (
            f"a recipe of weights {sha256[:12]}, not of {source.weights} "
            f"({source.sha256[:12]}); fine-tune for these weights"
        )
    if theirs != ours:
        return (
            f"a recipe for {theirs.height} x {theirs.width} and normalization "
            f"{theirs.normalization!r}, but asked for is {ours.height} x {ours.width}, "
            f"{ours.normalization!r}; fine-tune for that"
        )
    return ""
