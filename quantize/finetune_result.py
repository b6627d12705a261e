"""What a fine-tuning hands over: the recipe that egeunet-export makes an int8 file of."""

from __future__ import annotations

from egeunet.quantize.calibration import Calibration
from egeunet.quantize.finetune import Finetuner
from egeunet.quantize.finetune_validation import Validation
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.trained_graph import TrainedGraph


def finetuned_recipe(
    finetuner: Finetuner, network: TrainedGraph, weights_sha256: str, data: str
) -> StaticRecipe:
    """Describe the result.

    Args:
        finetuner: which has run.
        network: what its run gave.
        weights_sha256: of the reference's file.
        data: the training pictures in words.
    """
    contract = finetuner.contract
    validation = Validation(finetuner.reference, contract, finetuner.validation.pictures)
    measured = validation(network)
    graph = network.trained()
    calibration = Calibration(
        ranges=network.calibration_ranges(),
        source=f"bounds trained on {data}",
        images=len(finetuner.training.images),
        weights_sha256=weights_sha256,
        height=contract.height,
        width=contract.width,
        graph_sha256=graph.structure_sha256(),
    )
    details = {
        "validation_images": len(validation.truth),
        "validation_iou": measured.iou,
        "reference_iou": measured.reference_iou,
        "mask_iou": measured.mask_iou,
        "data_fingerprint": finetuner.state.data_fingerprint,
        "plan": finetuner.plan.to_dict(),
        "log": finetuner.state.log,
    }
    if finetuner.start is not None:
        details["before"] = finetuner.start.details
    return StaticRecipe(
        constants={value.name: value.data for value in graph.constants() if value.data is not None},
        config=finetuner.networks.reference.config,
        contract=contract,
        form=finetuner.plan.form,
        calibration=calibration,
        details=details,
    )
