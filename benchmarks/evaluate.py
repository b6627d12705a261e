"""Scores of any runner over any stream of labelled images, alone or beside a reference."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.labelled_images import LabelledImage
from egeunet.export.runners import Runner
from egeunet.model.errors import InputError
from egeunet.model.metrics import PROTOCOL, Counts, Scores, counts, dice, jaccard, scores


@dataclass(frozen=True)
class Comparison:
    """A model beside the one it was made from, on the same images.

    Attributes:
        scores: of the reference.
        mask_agreement: share of pixels with the same verdict, 0..1.
        mask_iou: IoU between the two models' masks, pooled over all pixels, 0..1.
        max_abs_difference: largest difference of two probabilities, 0..1.
        iou_drop_points: reference minus model, pooled IoU in points of 100.
    """

    scores: Scores
    mask_agreement: float
    mask_iou: float
    max_abs_difference: float
    iou_drop_points: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**vars(self), "scores": self.scores.to_dict()}


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`.

    Attributes:
        threshold: a pixel is lesion where its probability is greater or equal.
        ids: names of the images, in order.
        counts: int64 (N, 4), tp, fp, fn, tn of each image; counts of shards add up.
        scores: of all images together.
        comparison: with the reference, if one was given.
    """

    threshold: float
    ids: tuple[str, ...]
    counts: Counts
    scores: Scores
    comparison: Comparison | None = None

    def per_image_csv(self) -> str:
        """One row per image: id, tp, fp, fn, tn, jaccard, dice."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("id", "tp", "fp", "fn", "tn", "jaccard", "dice"))
        rows = zip(
            self.ids, self.counts.tolist(), jaccard(self.counts), dice(self.counts), strict=True
        )
        for id, cells, one_jaccard, one_dice in rows:
            writer.writerow((id, *cells, repr(float(one_jaccard)), repr(float(one_dice))))
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: the scores by their names, pooled counts, the comparison."""
        pooled = (int(value) for value in self.counts.sum(axis=0))
        return {
            **self.scores.to_dict(),
            "threshold": self.threshold,
            "counts": dict(zip(("tp", "fp", "fn", "tn"), pooled, strict=True)),
            "reference": self.comparison.to_dict() if self.comparison else None,
        }


def evaluate(
    runner: Runner,
    images: Iterable[LabelledImage],
    *,
    threshold: float | None = None,
    reference: Runner | None = None,
) -> Evaluation:
    """Score a model; one image is held at a time, and four integers of each.

    Args:
        runner: the model.
        images: at the runner's input size, image uint8 (H, W, 3) and mask bool (H, W);
            the paper's protocol scores at that size (256x256), not at the original's.
        threshold: None = that of the runner's contract; the reference gets the same.
        reference: a second model with the same input size, run on the same images.

    Raises:
        InputError: no images, sizes that differ, a bad threshold, a model giving NaN.
    """
    if threshold is None:
        threshold = runner.contract.threshold
    contract = replace(runner.contract, threshold=threshold)  # checks its range
    size = (contract.height, contract.width)
    if reference is not None and size != (reference.contract.height, reference.contract.width):
        other = reference.contract
        raise InputError(
            f"the model takes {size[0]}x{size[1]} images and the reference "
            f"{other.height}x{other.width}; compare models of one input size"
        )
    ids: list[str] = []
    against_truth: list[Counts] = []
    reference_truth: list[Counts] = []
    between: list[Counts] = []
    difference = 0.0
    for id, image, mask in images:
        probability = runner(image[None])[0, ..., 0]  # (H, W)
        verdict = probability >= threshold
        ids.append(id)
        against_truth.append(_one(verdict, mask))
        if reference is not None:
            other_probability = reference(image[None])[0, ..., 0]
            other_verdict = other_probability >= threshold
            reference_truth.append(_one(other_verdict, mask))
            between.append(_one(verdict, other_verdict))
            difference = max(difference, float(np.abs(probability - other_probability).max()))
    if not ids:
        raise InputError("no images to evaluate")
    protocol = f"{PROTOCOL}, {size[0]}x{size[1]}, threshold {threshold:g}"
    rows = np.stack(against_truth)
    total = scores(rows, protocol)
    comparison = None
    if reference is not None:
        expected, same = scores(np.stack(reference_truth), protocol), scores(np.stack(between))
        comparison = Comparison(
            scores=expected,
            mask_agreement=same.accuracy,
            mask_iou=same.iou,
            max_abs_difference=difference,
            iou_drop_points=100.0 * (expected.iou - total.iou),
        )
    return Evaluation(threshold, tuple(ids), rows, total, comparison)


def _one(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Counts:
    cells: Counts = counts(prediction[None], truth[None])[0]  # (4,)
    return cells
