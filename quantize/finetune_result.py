"""What a fine-tuning hands over: the recipe that egeunet-export makes an int8 file of."""

from __future__ import annotations

from egeunet.quantize.calibration import Calibration
from egeunet.quantize.finetune import Finetuner
from egeunet.quantize.recipe_file import StaticRecipe


def finetuned_recipe(finetuner: Finetuner, weights_sha256: str, data: str) -> StaticRecipe:
    """Run to the end and describe the result.

    Args:
        finetuner: new or resumed.
        weights_sha256: of the reference's file.
        data: the training pictures in words.

    Raises:
        KeyboardInterrupt, InputError, OutputError: as :meth:`Finetuner.run`.
    """
    network = finetuner.run()
    contract, validation = finetuner.contract, finetuner.validation
    iou, agreement = validation(network)
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
        "validation_iou": iou,
        "reference_iou": validation.reference_iou(),
        "mask_iou": agreement,
        "data_fingerprint": finetuner.state.data_fingerprint,
        "plan": finetuner.plan.to_dict(),
        "log": finetuner.state.log,
    }
    return StaticRecipe(
        constants={value.name: value.data for value in graph.constants() if value.data is not None},
        config=finetuner.networks.reference.config,
        contract=contract,
        form=finetuner.plan.form,
        calibration=calibration,
        details=details,
    )
