"""Evaluation: streaming, additive over shards, comparison with a reference."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.benchmarks.evaluate import evaluate
from egeunet.benchmarks.evaluation_report import evaluation_report, report_text
from egeunet.benchmarks.labelled_images import LabelledImage, synthetic_images
from egeunet.benchmarks.sharding import Shard
from egeunet.model import ModelContract
from egeunet.model.errors import InputError
from egeunet.model.metrics import counts, scores

CONTRACT = ModelContract(32, 64)


@dataclass
class RedChannel:
    """A runner that says red / 255, changed by ``offset``."""

    offset: float = 0.0
    contract: ModelContract = CONTRACT
    name: str = "red"
    precision_note: str = "none"

    def __call__(self, image_nhwc: np.ndarray) -> np.ndarray:
        probability = image_nhwc[..., :1].astype(np.float32) / np.float32(255)
        return np.clip(probability + np.float32(self.offset), 0, 1)


def pictures(number: int, seed: int = 0) -> list[LabelledImage]:
    generator = np.random.default_rng(seed)
    return [
        LabelledImage(
            f"p{index}",
            generator.integers(0, 256, (32, 64, 3), dtype=np.uint8),
            generator.random((32, 64)) < 0.4,
        )
        for index in range(number)
    ]


def test_scores_are_those_of_the_thresholded_probability() -> None:
    images = pictures(4)
    result = evaluate(RedChannel(), images)
    # 127 / 255 is below one half, 128 / 255 above it.
    masks = np.stack([image[..., 0] >= 128 for _, image, _ in images])
    truth = np.stack([mask for *_, mask in images])
    protocol = "one confusion matrix pooled over all pixels, 32x64, threshold 0.5"
    assert result.scores == scores(counts(masks, truth), protocol)
    assert result.ids == ("p0", "p1", "p2", "p3")
    assert result.comparison is None
    higher = evaluate(RedChannel(), images, threshold=0.9)
    assert higher.scores.sensitivity is not None
    assert result.scores.sensitivity is not None
    assert higher.scores.sensitivity < result.scores.sensitivity
    assert higher.scores.protocol.endswith("threshold 0.9")


def test_images_are_taken_one_at_a_time() -> None:
    """The next image is asked for only when the one before has been scored."""
    events: list[str] = []

    class Logging(RedChannel):
        def __call__(self, image_nhwc: np.ndarray) -> np.ndarray:
            events.append(f"run {len(image_nhwc)}")
            return super().__call__(image_nhwc)

    def stream() -> Iterator[LabelledImage]:
        for image in pictures(3):
            events.append("load")
            yield image

    evaluate(Logging(), stream())
    assert events == ["load", "run 1"] * 3


@settings(deadline=None, max_examples=20)
@given(number=st.integers(1, 9), count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_counts_of_shards_add_up(number: int, count: int, seed: int) -> None:
    images = pictures(number, seed)
    whole = evaluate(RedChannel(), images)
    parts = [Shard(index + 1, count).select(images) for index in range(count)]
    rows = np.concatenate([evaluate(RedChannel(), part).counts for part in parts if part])
    joined = scores(rows, whole.scores.protocol).to_dict()
    assert joined == pytest.approx(whole.scores.to_dict(), abs=1e-12)


def test_comparison_with_a_reference() -> None:
    images = pictures(3)
    result = evaluate(RedChannel(), images, reference=RedChannel(offset=0.1))
    assert result.comparison is not None
    comparison = result.comparison
    mine = np.stack([image[..., 0] / 255 >= 0.5 for _, image, _ in images])
    other = np.stack([image[..., 0] / 255 + 0.1 >= 0.5 for _, image, _ in images])
    assert comparison.max_abs_difference == pytest.approx(0.1, abs=1e-6)
    assert comparison.mask_agreement == pytest.approx((mine == other).mean(), abs=1e-12)
    assert comparison.mask_iou == pytest.approx((mine & other).sum() / (mine | other).sum())
    drop = 100 * (comparison.scores.iou - result.scores.iou)
    assert comparison.iou_drop_points == pytest.approx(drop, abs=1e-12)
    same = evaluate(RedChannel(), images, reference=RedChannel()).comparison
    assert same is not None
    assert (same.mask_agreement, same.mask_iou) == (1.0, 1.0)
    assert (same.max_abs_difference, same.iou_drop_points) == (0.0, 0.0)


def test_reference_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="32x64 images and the reference 256x256"):
        evaluate(RedChannel(), pictures(1), reference=RedChannel(contract=ModelContract()))


def test_no_images_and_bad_threshold_are_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        evaluate(RedChannel(), [])
    with pytest.raises(InputError, match="threshold"):
        evaluate(RedChannel(), pictures(1), threshold=1.5)


def test_per_image_rows_rebuild_the_scores() -> None:
    result = evaluate(RedChannel(), pictures(5))
    rows = list(csv.DictReader(io.StringIO(result.per_image_csv())))
    table = np.array([[int(row[key]) for key in ("tp", "fp", "fn", "tn")] for row in rows])
    assert scores(table, result.scores.protocol) == result.scores
    assert np.mean([float(row["jaccard"]) for row in rows]) == pytest.approx(
        result.scores.mean_jaccard, abs=1e-12
    )


def test_synthetic_images_are_repeatable_and_called_so() -> None:
    images = synthetic_images(5).take(Shard(2, 2))
    assert [id for id, _ in images.items] == ["synthetic_00001", "synthetic_00003"]
    contract = ModelContract(32, 64)
    first, again = (list(images.load(contract)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.image.shape == (32, 64, 3)
        assert one.mask.any() and not one.mask.all()
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
    model = {"file": "m", "bytes": 1, "runtime": "red"}
    report = evaluation_report(evaluate(RedChannel(), first), images, model)
    assert report["data"] == "synthetic"
    assert "synthetic images: says nothing about real ones" in report_text(report)


@pytest.mark.parametrize(("limit", "shard"), [(0, "1/1"), (-3, "1/1"), (2, "3/3")])
def test_nothing_left_to_evaluate_is_refused(limit: int, shard: str) -> None:
    with pytest.raises(InputError, match=r"limit must|is empty"):
        synthetic_images(4).take(Shard.parse(shard), limit)
