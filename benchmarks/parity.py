"""Every candidate beside the reference, on images that are loaded and referred to once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.labelled_images import LabelledImage
from egeunet.benchmarks.worker_process import WorkerProcess
from egeunet.export.runners.runner import Probability
from egeunet.model.errors import InputError
from egeunet.model.metrics import Counts, counts, jaccard, scores

#: Images named in a report.
_WORST = 5


@dataclass
class Parity:
    """One candidate against ground truth and against the reference, image by image.

    Attributes:
        threshold: a pixel is lesion where the probability is greater or equal.
        reasons: of the images for which there was no probability: NaN, infinite, beyond
            0..1, or the runtime failed. They count as masks without a lesion.
    """

    threshold: float
    ids: list[str] = field(default_factory=list)
    truth: list[Counts] = field(default_factory=list)
    reference_truth: list[Counts] = field(default_factory=list)
    between: list[Counts] = field(default_factory=list)
    largest: float = 0.0
    mean_sum: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def add(
        self,
        id: str,
        mask: NDArray[np.bool_],
        expected: NDArray[np.float32],
        actual: NDArray[np.float32] | None,
        reason: str = "",
    ) -> None:
        """One image.

        Args:
            mask: bool (H, W), the truth.
            expected, actual: float32 (H, W), probabilities of the reference and of the
                candidate, None where that gave none and ``reason`` says why.
        """
        if actual is None:
            self.reasons.append(reason)
            actual = np.zeros_like(expected)
        difference = np.abs(actual - expected)
        verdicts = [probability >= self.threshold for probability in (expected, actual)]
        self.ids.append(id)
        self.reference_truth.append(counts(verdicts[0][None], mask[None])[0])
        self.truth.append(counts(verdicts[1][None], mask[None])[0])
        self.between.append(counts(verdicts[1][None], verdicts[0][None])[0])
        self.largest = max(self.largest, float(difference.max()))
        self.mean_sum += float(difference.mean(dtype=np.float64))

    @property
    def useless(self) -> bool:
        """No image gave a probability."""
        return len(self.reasons) == len(self.ids)

    def to_dict(self) -> dict[str, Any]:
        """The value of ``accuracy`` in a row of the report.

        Raises:
            InputError: no image was added.
        """
        if not self.ids:
            raise InputError("no images to evaluate")
        truth, reference, between = map(np.stack, (self.truth, self.reference_truth, self.between))
        own, expected, same = scores(truth), scores(reference), scores(between)
        constant, expected_constant = (_constant(rows) for rows in (truth, reference))
        names = (
            "iou", "dice", "mean_jaccard", "thresholded_jaccard", "sensitivity", "specificity",
            "accuracy", "constant_masks",
        )  # fmt: skip
        return {
            **{name: getattr(own, name) for name in names},
            "iou_drop_points": 100 * (expected.iou - own.iou),
            "dice_drop_points": 100 * (expected.dice - own.dice),
            "mask_agreement": same.accuracy,
            "mask_iou": same.iou,
            "max_abs_diff": self.largest,
            "mean_abs_diff": self.mean_sum / len(self.ids),
            "new_constant_masks": int((constant & ~expected_constant).sum()),
            "non_finite": len(self.reasons),
            "worst": self._worst(truth, reference, between),
        }

    def _worst(self, truth: Counts, reference: Counts, between: Counts) -> list[dict[str, Any]]:
        """The images whose masks differ most from the reference's, worst first."""
        columns = [jaccard(rows) for rows in (truth, reference, between)]
        order = np.lexsort((columns[0], columns[2]))[:_WORST]
        names = ("iou", "reference_iou", "mask_iou")
        return [
            {"image": self.ids[index]}
            | {name: float(column[index]) for name, column in zip(names, columns, strict=True)}
            for index in order
        ]


def compare(
    reference: WorkerProcess,
    candidates: Mapping[str, WorkerProcess],
    thresholds: Mapping[str, float],
    images: Iterable[LabelledImage],
    step: Callable[[str], None] = lambda id: None,
) -> dict[str, Parity]:
    """Run the reference and all candidates over the images; one image is held at a time.

    Args:
        reference: the process in which the reference has been opened; it may be a candidate.
        candidates, thresholds: by name.
        images: at the input size that all of them have.
        step: told each image's id before it is run.

    Returns:
        The results by name. A candidate whose process has died gives nothing from then on.

    Raises:
        InputError: the reference fails.
    """
    results = {name: Parity(thresholds[name]) for name in candidates}
    for id, image, mask in images:
        step(id)
        expected = _map(reference.ask("probability", image[None]))
        for name, worker in candidates.items():
            if worker is reference:
                results[name].add(id, mask, expected, expected)
                continue
            actual, reason = None, ""
            try:
                actual = _map(worker.ask("probability", image[None]))
            except InputError as error:
                reason = str(error)
            results[name].add(id, mask, expected, actual, reason)
    return results


def _map(probability: Probability) -> NDArray[np.float32]:
    return probability[0, ..., 0]  # (1, H, W, 1) -> (H, W)


def _constant(rows: Counts) -> NDArray[np.bool_]:
    """Which predictions are all lesion or all skin, from tp, fp, fn, tn of each."""
    lesion = rows[:, 0] + rows[:, 1]
    return (lesion == 0) | (lesion == rows.sum(axis=1))
