"""The precision ``int8`` as egeunet-export finds it (an entry point in pyproject.toml)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.model.contract import ModelContract
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.int8 import quantize_int8

#: Ranges recorded on training images of the shipped weights, at the contract's size.
_SHIPPED = "calibration.json"
#: Pictures made when nothing better is at hand, and their series (checks use another).
_SYNTHETIC_IMAGES = 48
_SYNTHETIC_SEED = 2000


def int8(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """Static post-training quantization; GroupNorms stay in float32.

    The ten GroupNorms lose three points of IoU in int8 and the 37 LayerNorms a tenth of
    one (docs/decisions.md), so the former are computed in float32 between a DEQUANTIZE
    and a QUANTIZE, and the report says how many operators that leaves.
    """
    calibration = calibration_for(graph, source, request.calibration)
    kept = [node.output for node in graph.nodes if node.scope.endswith("/group_norm")]
    quantized = quantize_int8(graph, calibration, source.contract, request.io_type, kept)
    details = {"calibration": calibration.source, "calibration_images": calibration.images}
    return Prepared(quantized, details)


def calibration_for(graph: Graph, source: Source, folder: Path | None) -> Calibration:
    """Ranges from a folder's images, else the shipped ones if they are of these weights
    at this size, else from synthetic pictures; which it was is in ``.source``."""
    contract = source.contract
    if folder is not None:
        name, images = f"images of {folder.name}", _folder_images(folder, contract)
    else:
        shipped = shipped_calibration()
        if shipped is not None and shipped.matches(source.sha256, contract):
            return shipped
        name, images = "synthetic images", _synthetic_images(contract)
    return calibrate(graph, contract, images, source=name, weights_sha256=source.sha256)


def shipped_calibration() -> Calibration | None:
    """The calibration in the package."""
    with resources.as_file(resources.files("egeunet.quantize") / "shipped" / _SHIPPED) as path:
        return Calibration.load(path) if path.is_file() else None


def _folder_images(folder: Path, contract: ModelContract) -> Iterator[NDArray[np.uint8]]:
    from egeunet.model.data.dataset import find_dataset
    from egeunet.model.data.images import read_image, resize_image

    for sample in find_dataset(folder, require_masks=False).samples:
        yield resize_image(read_image(sample.image), contract.height, contract.width)


def _synthetic_images(contract: ModelContract) -> Iterator[NDArray[np.uint8]]:
    from egeunet.model.data.images import resize_image
    from egeunet.model.data.synthetic import synthetic_sample

    side = max(contract.height, contract.width)
    for index in range(_SYNTHETIC_IMAGES):
        image, _ = synthetic_sample(index, side, _SYNTHETIC_SEED)
        yield resize_image(image, contract.height, contract.width)
