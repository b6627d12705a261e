"""Masks, overlays and measurements of images in their original size, resumable."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from egeunet.benchmarks.overlay import bounding_box, overlay
from egeunet.benchmarks.pictures import Picture
from egeunet.benchmarks.results_log import (
    ResultsLog,
    remove_leftovers,
    resume,
    source_identity,
)
from egeunet.benchmarks.sharding import Shard
from egeunet.export.runners import Runner
from egeunet.model.atomic import explained, write_bytes
from egeunet.model.data.images import read_image
from egeunet.model.data.resize import resize_image
from egeunet.model.errors import InputError

Progress = Callable[[Sequence[Picture]], Iterable[Picture]]


@dataclass(frozen=True)
class Prediction:
    """The verdict on one image, in its original size.

    Attributes:
        probability: float32 (H, W), 0..1.
        mask: bool (H, W), True is lesion.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]

    def measurements(self) -> dict[str, Any]:
        """Area fraction, bounding box [x0, y0, x1, y1), mean probabilities and size.

        Box and mean over the lesion are None where there is no lesion.
        """
        inside = self.probability[self.mask]
        box = bounding_box(self.mask)
        return {
            "lesion_area_fraction": float(self.mask.mean()),
            "bounding_box": list(box) if box else None,
            "mean_probability": float(self.probability.mean(dtype=np.float64)),
            "mean_probability_lesion": float(inside.mean(dtype=np.float64)) if box else None,
            "width": self.mask.shape[1],
            "height": self.mask.shape[0],
        }


@dataclass(frozen=True)
class Summary:
    """How many images were predicted now, had been before, and could not be."""

    predicted: int
    skipped: int
    failed: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.predicted + self.skipped + self.failed


def predict_image(
    runner: Runner, image: NDArray[np.uint8], threshold: float | None = None
) -> Prediction:
    """Segment one image.

    It is squashed to the model's size; the probability (not the mask) is resized back
    bilinearly and only then compared with the threshold, so the outline is smooth.

    Args:
        image: uint8 (H, W, 3), RGB, any size.
        threshold: lesion from this probability on; None = the contract's.
    """
    contract = runner.contract
    height, width = image.shape[:2]
    small = resize_image(image, contract.height, contract.width)
    probability = runner(small[None])[0, ..., 0]  # (contract.height, contract.width)
    if probability.shape != (height, width):
        resized = Image.fromarray(np.ascontiguousarray(probability)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        probability = np.asarray(resized, dtype=np.float32)  # (height, width)
    limit = contract.threshold if threshold is None else threshold
    return Prediction(probability, probability >= limit)


def predict(
    runner: Runner,
    pictures: Sequence[Picture],
    out: str | Path,
    *,
    model: dict[str, Any],
    shard: Shard | None = None,
    threshold: float | None = None,
    overwrite: bool = False,
    progress: Progress = iter,
    complain: Callable[[str], None] = print,
) -> Summary:
    """Write NAME_mask.png, NAME_overlay.png and a line of results.jsonl for each picture.

    One image is held at a time. An image that cannot be read is complained about and
    left out. A rerun skips finished images; a killed run leaves no half picture.

    Args:
        pictures: from :func:`egeunet.benchmarks.pictures.find_pictures`, all shards'.
        model: from :func:`egeunet.benchmarks.provenance.describe_model`.
        shard: which part to do; its results go to results-I-of-N.jsonl.
        threshold: None = the contract's.
        progress: wraps the list of what is to be done.
        complain: takes one line about each image that cannot be read.

    Raises:
        InputError: a bad threshold, a model giving NaN, a foreign results.jsonl.
        OutputError: the folder cannot be written, or the disk is full.
    """
    out, shard = Path(out), shard or Shard()
    limit = runner.contract.threshold if threshold is None else threshold
    replace(runner.contract, threshold=limit)  # checks its range
    made_by = {"model": model["file"], "model_sha256": model["sha256"], "threshold": limit}
    mine = shard.select(pictures)
    log = out / f"results{shard.suffix}.jsonl"
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(log, mine)
    finished = resume(log, mine, made_by, overwrite=overwrite)
    todo = [picture for picture in mine if picture.file not in finished]
    failed = 0
    with ResultsLog(log) as results:
        for picture in progress(todo):
            try:
                identity = source_identity(picture)
                image = read_image(picture.source)
            except InputError as error:
                complain(" ".join(str(error).split()))
                failed += 1
                continue
            prediction = predict_image(runner, image, limit)
            write_bytes(out / picture.mask, _png(prediction.mask.astype(np.uint8) * 255))
            write_bytes(out / picture.overlay, _png(overlay(image, prediction.mask)))
            names = {"file": picture.file, "mask": picture.mask, "overlay": picture.overlay}
            results.append({**names, **prediction.measurements(), **made_by, **identity})
    return Summary(len(todo) - failed, len(finished), failed)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
