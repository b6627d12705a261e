"""How sure a score over a set of images is: a percentile bootstrap over the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egeunet.model.errors import InputError
from egeunet.model.metrics import JACCARD_THRESHOLD, Counts, jaccard, scores

#: Resamples at a time, so that memory stays small.
_CHUNK = 500
#: Scores that are functions of the pooled counts or means over the images.
NAMES = (
    "iou", "dice", "sensitivity", "specificity", "accuracy", "mean_jaccard", "thresholded_jaccard",
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A score, 0..1, and the bounds within which 95 % of the resamples lie."""

    value: float
    low: float
    high: float


def intervals(counts: Counts, *, resamples: int = 10_000, seed: int = 0) -> dict[str, Interval]:
    """Scores of a set of images with their 95 % intervals (Efron's percentile method).

    Images are drawn with replacement, as whole images are what varies; pixels of one image
    are not independent.

    Args:
        counts: int64 (N, 4), tp, fp, fn, tn of each image.
        resamples: how many sets of N images are drawn.
        seed: of the draws.

    Raises:
        InputError: no images, or fewer than one resample.
    """
    if resamples < 1:
        raise InputError(f"resamples must be 1 or more, got {resamples}")
    exact = scores(counts)
    images, per_image = len(counts), jaccard(counts)
    # One matrix product gives pooled counts and means of a chunk of resamples.
    kept = np.where(per_image < JACCARD_THRESHOLD, 0.0, per_image)
    columns = np.column_stack((counts, per_image, kept))
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for start in range(0, resamples, _CHUNK):
        weights = rng.multinomial(
            images, np.full(images, 1 / images), min(_CHUNK, resamples - start)
        )
        for name, values in _scores((weights @ columns).T, images).items():
            drawn[name].append(values)
    result = {}
    for name, parts in drawn.items():
        value = getattr(exact, name)
        if value is not None:  # no such pixel in the truth: nothing to be unsure of
            low, high = np.nanpercentile(np.concatenate(parts), (2.5, 97.5))
            result[name] = Interval(value, float(low), float(high))
    return result


def _scores(sums: np.ndarray, images: int) -> dict[str, np.ndarray]:
    """(6, R) sums -> each score, (R,); undefined ratios are NaN."""
    tp, fp, fn, tn, total_jaccard, total_thresholded = sums
    with np.errstate(invalid="ignore"):
        return {
            "iou": np.where(tp + fp + fn == 0, 1.0, tp / (tp + fp + fn)),
            "dice": np.where(tp + fp + fn == 0, 1.0, 2 * tp / (2 * tp + fp + fn)),
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "mean_jaccard": total_jaccard / images,
            "thresholded_jaccard": total_thresholded / images,
        }
