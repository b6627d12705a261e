"""Candidates beside the reference, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from egeunet.benchmarks.labelled_images import LabelledImage
from egeunet.benchmarks.parity import Parity, compare
from egeunet.benchmarks.worker_process import WorkerProcess
from egeunet.model.errors import InputError
from egeunet.model.metrics import counts, scores

SIZE = (8, 6)


class Stand:
    """Answers as a worker does: with red / 255 plus ``offset``, or not at all."""

    def __init__(self, offset: float = 0.0, refuses: frozenset[int] = frozenset()) -> None:
        self.offset, self.refuses, self.asked = offset, refuses, 0

    def ask(self, method: str, images: Any) -> Any:
        assert method == "probability"
        self.asked += 1
        if self.asked - 1 in self.refuses:
            raise InputError("the model gives NaN")
        return np.clip(images[..., :1] / np.float32(255) + np.float32(self.offset), 0, 1)


def images(count: int = 5) -> Iterator[LabelledImage]:
    generator = np.random.default_rng(0)
    for index in range(count):
        pixels = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        yield LabelledImage(f"i{index}", pixels, generator.random(SIZE) < 0.4)


def compared(candidate: Stand, count: int = 5) -> tuple[dict[str, Any], Stand]:
    reference = Stand()
    workers = cast("dict[str, WorkerProcess]", {"reference": reference, "candidate": candidate})
    found = compare(workers["reference"], workers, dict.fromkeys(workers, 0.5), images(count))
    return {name: each.to_dict() for name, each in found.items()}, reference


def test_values_are_those_of_the_metrics_computed_at_once() -> None:
    found, reference = compared(Stand(offset=0.2))
    assert reference.asked == 5  # once an image, whoever is compared with it
    pixels = np.stack([each.image for each in images()])
    truth = np.stack([each.mask for each in images()])
    expected = pixels[..., 0] / np.float32(255)
    actual = np.clip(expected + np.float32(0.2), 0, 1)
    own, same = scores(counts(actual >= 0.5, truth)), scores(counts(actual >= 0.5, expected >= 0.5))
    base = scores(counts(expected >= 0.5, truth))
    got = found["candidate"]
    for name in ("iou", "dice", "mean_jaccard", "sensitivity", "specificity", "accuracy"):
        assert got[name] == getattr(own, name)
    assert got["mask_iou"] == same.iou and got["mask_agreement"] == same.accuracy
    assert got["iou_drop_points"] == pytest.approx(100 * (base.iou - own.iou))
    assert got["dice_drop_points"] == pytest.approx(100 * (base.dice - own.dice))
    assert got["max_abs_diff"] == pytest.approx(0.2)
    assert got["mean_abs_diff"] == pytest.approx(np.abs(actual - expected).mean(), rel=1e-6)


def test_the_reference_differs_from_itself_by_nothing() -> None:
    got = compared(Stand())[0]["reference"]
    assert (got["max_abs_diff"], got["mask_iou"], got["iou_drop_points"]) == (0.0, 1.0, 0.0)


def test_worst_images_come_worst_first() -> None:
    worst = compared(Stand(offset=0.1), count=9)[0]["candidate"]["worst"]
    assert len(worst) == 5
    assert [w["mask_iou"] for w in worst] == sorted(w["mask_iou"] for w in worst)
    assert worst[0]["mask_iou"] < worst[-1]["mask_iou"]
    assert all(0 <= w["iou"] <= 1 and 0 <= w["reference_iou"] <= 1 for w in worst)


def test_an_image_without_a_probability_counts_as_no_lesion() -> None:
    got = compared(Stand(refuses=frozenset({1, 3})))[0]["candidate"]
    assert got["non_finite"] == 2
    assert got["constant_masks"] == got["new_constant_masks"] == 2
    assert {w["image"] for w in got["worst"][:2]} == {"i1", "i3"}


def test_a_collapsed_file_has_new_constant_masks() -> None:
    got = compared(Stand(offset=-1.0))[0]["candidate"]
    assert (got["constant_masks"], got["new_constant_masks"], got["non_finite"]) == (5, 5, 0)


def test_no_image_is_no_result() -> None:
    with pytest.raises(InputError, match="no images"):
        Parity(0.5).to_dict()


def test_a_reference_that_fails_ends_it() -> None:
    worker = cast(WorkerProcess, Stand(refuses=frozenset({0})))
    with pytest.raises(InputError, match="NaN"):
        compare(worker, {"r": worker}, {"r": 0.5}, images())
