"""A fine-tuned recipe for weights that were trained on after it: what it is worth beside them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from egeunet.export.request import ExportRequest, Source
from egeunet.export.runners import open_runner
from egeunet.export.runners.torch_runner import TorchRunner
from egeunet.model.data.prepared import PreparedData
from egeunet.model.errors import InputError, needs_extra
from egeunet.model.metrics import counts, mask_iou, scores
from egeunet.quantize.file_measure import masks_of
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.recipe_precision import static_int8


def adopted(recipe: StaticRecipe, source: Source, data: PreparedData) -> StaticRecipe:
    """The recipe as one of other weights; nothing but what it says of itself changes.

    Args:
        recipe: of a fine-tuning.
        source: the weights that it shall stand for.
        data: held-out pictures with masks, on which its file is measured anew.

    Raises:
        InputError: another architecture, size or normalization.
    """
    with needs_extra("tflite"):
        from egeunet.export.tflite.emit import emit_tflite
    if (recipe.config, recipe.contract) != (source.model.config, source.contract):
        raise InputError(
            f"a recipe for {recipe.contract.height} x {recipe.contract.width} and another network "
            f"or contract than {source.weights}"
        )
    graph = static_int8(recipe, source, ExportRequest("tflite", "int8")).graph
    with tempfile.TemporaryDirectory(prefix="egeunet-adopt-") as folder:
        path = Path(folder) / "file.tflite"
        path.write_bytes(emit_tflite(graph, source.contract))
        masks = masks_of(open_runner(path), data, source.contract.threshold)
    runner = TorchRunner.from_model(source.model, source.contract)
    reference = masks_of(runner, data, source.contract.threshold)
    truth = np.asarray(data.masks)
    details = {
        **recipe.details,
        "validation_images": len(data),
        "validation_iou": scores(counts(masks, truth)).iou,
        "reference_iou": scores(counts(reference, truth)).iou,
        "mask_iou": mask_iou(masks, reference),
        "trained_beside_sha256": recipe.details.get(
            "trained_beside_sha256", recipe.calibration.weights_sha256
        ),
    }
    calibration = replace(recipe.calibration, weights_sha256=source.sha256)
    return replace(recipe, calibration=calibration, details=details)
