"""Segmentation scores in two pure steps: counts per image, then scores from counts.

The step between is an (N, 4) int64 array of tp, fp, fn, tn, so that counts of
shards, folders or runs are joined by concatenation and scored once. The two steps
are those of segmentation_models.pytorch (Iakubovskii, 2019).

Empty masks, by definition here:

- per image, truth and prediction both empty: they agree, Jaccard and Dice are 1;
  only one of them empty: 0 (which the formula gives by itself);
- pooled, no lesion pixel in any truth or prediction: IoU and Dice are 1;
- sensitivity without one lesion pixel in the truth, specificity without one skin
  pixel: the ratio does not exist and is None, never 0 or NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.model.errors import InputError

#: ISIC 2018 Task 1: a Jaccard index below this counts as 0 (Codella et al., arXiv:1902.03368).
JACCARD_THRESHOLD = 0.65
PROTOCOL = "one confusion matrix pooled over all pixels"

Masks = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What one model reaches on one set of images; fractions 0..1, lesion is positive.

    Attributes:
        images: number of images.
        protocol: how ``iou`` and ``dice`` were made, in words.
        iou, dice: from one confusion matrix pooled over all pixels of all images
            (the protocol of the EGE-UNet paper, arXiv:2307.08473).
        mean_jaccard, mean_dice: means of the values per image.
        thresholded_jaccard: mean of the Jaccard indices with those below 0.65 set to 0.
        sensitivity, specificity: pooled; None where the truth has no such pixel.
        accuracy: share of pixels that are right, pooled.
        constant_masks: number of predictions that are all lesion or all skin.
    """

    images: int
    protocol: str
    iou: float
    dice: float
    mean_jaccard: float
    mean_dice: float
    thresholded_jaccard: float
    sensitivity: float | None
    specificity: float | None
    accuracy: float
    constant_masks: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values under the names of the reports."""
        return asdict(self)


def counts(prediction: Masks, truth: Masks) -> Counts:
    """Confusion counts of each image.

    Args:
        prediction, truth: bool (N, H, W), or (N, H, W, 1) as runners give it; True is lesion.

    Returns:
        int64 (N, 4): tp, fp, fn, tn in pixels.

    Raises:
        InputError: other dtypes, ranks or differing shapes.
    """
    for name, masks in (("prediction", prediction), ("truth", truth)):
        flat = masks.ndim == 3 or (masks.ndim == 4 and masks.shape[3] == 1)
        if masks.dtype != np.bool_ or not flat or not masks.size:
            raise InputError(
                f"{name} must be a non-empty bool array (N, H, W), "
                f"got {masks.dtype} {masks.shape}; threshold it first"
            )
    if prediction.shape != truth.shape:
        raise InputError(f"prediction is {prediction.shape} but truth is {truth.shape}")
    cells = (prediction & truth, prediction & ~truth, ~prediction & truth, ~prediction & ~truth)
    return np.stack([cell.reshape(len(cell), -1).sum(1, dtype=np.int64) for cell in cells], axis=1)


def jaccard(counts: Counts) -> NDArray[np.float64]:
    """Jaccard index of each row, (N, 4) int64 -> (N,) float64; both empty gives 1."""
    tp, fp, fn, _ = counts.T
    return _ratio_or_one(tp, tp + fp + fn)


def dice(counts: Counts) -> NDArray[np.float64]:
    """Dice coefficient of each row, (N, 4) int64 -> (N,) float64; both empty gives 1."""
    tp, fp, fn, _ = counts.T
    return _ratio_or_one(2 * tp, 2 * tp + fp + fn)


def scores(counts: Counts, protocol: str = PROTOCOL) -> Scores:
    """Scores of a set of images from its counts.

    Args:
        counts: int64 (N, 4) as given by :func:`counts`, N >= 1.
        protocol: words for the report, say with the size and the threshold.

    Raises:
        InputError: no images, another shape, or negative counts.
    """
    if counts.ndim != 2 or counts.shape[1] != 4 or counts.dtype.kind not in "iu":
        raise InputError(f"counts must be integers (N, 4), got {counts.dtype} {counts.shape}")
    if not len(counts) or (counts < 0).any() or not counts.sum(axis=1).all():
        raise InputError("counts need at least one image, and each image at least one pixel")
    tp, fp, fn, tn = (int(value) for value in counts.sum(axis=0, dtype=np.int64))
    pooled = np.array([[tp, fp, fn, tn]], dtype=np.int64)
    per_image = jaccard(counts)
    lesion = counts[:, 0] + counts[:, 1]
    constant = (lesion == 0) | (lesion == counts.sum(axis=1))
    return Scores(
        images=len(counts),
        protocol=protocol,
        iou=float(jaccard(pooled)[0]),
        dice=float(dice(pooled)[0]),
        mean_jaccard=float(per_image.mean()),
        mean_dice=float(dice(counts).mean()),
        thresholded_jaccard=float(
            np.where(per_image < JACCARD_THRESHOLD, 0.0, per_image).mean(),
        ),
        sensitivity=tp / (tp + fn) if tp + fn else None,
        specificity=tn / (tn + fp) if tn + fp else None,
        accuracy=(tp + tn) / (tp + fp + fn + tn),
        constant_masks=int(constant.sum()),
    )


def agreement(a: Masks, b: Masks) -> float:
    """Share of pixels at which two sets of masks (bool, as in :func:`counts`) are equal, 0..1."""
    return scores(counts(a, b)).accuracy


def mask_iou(a: Masks, b: Masks) -> float:
    """IoU between two sets of masks (bool, (N, H, W)), pooled over all pixels, 0..1."""
    return scores(counts(a, b)).iou


def _ratio_or_one(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    safe = np.where(whole == 0, 1, whole)
    return np.where(whole == 0, 1.0, part / safe)
