"""Bootstrap intervals, kinds of failures, and the page that tells them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from egeunet.benchmarks.accuracy_page import accuracy_page, worst_images
from egeunet.benchmarks.bootstrap import intervals
from egeunet.benchmarks.evaluate import Evaluation, evaluate
from egeunet.benchmarks.failure_kinds import traits, verdict
from egeunet.benchmarks.labelled_images import LabelledImages, synthetic_images
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError
from egeunet.model.metrics import scores

SKIN, LESION = (220, 180, 160), (110, 70, 50)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_intervals_hold_the_score_and_repeat(images: int, seed: int) -> None:
    cells = np.random.default_rng(seed).integers(1, 1000, (images, 4))
    found = intervals(cells, resamples=400)
    again = intervals(cells, resamples=400)
    for name, one in found.items():
        assert one == again[name]
        assert one.value == getattr(scores(cells), name)
        assert 0 <= one.low <= one.high <= 1


def test_an_interval_is_that_of_the_binomial_where_theory_knows_it() -> None:
    """One pixel an image, right or wrong: accuracy is a proportion, sd sqrt(p q / n)."""
    right = 300
    cells = np.array([[1, 0, 0, 0]] * right + [[0, 0, 1, 0]] * 100)
    found = intervals(cells)["accuracy"]
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found.low == pytest.approx(0.75 - spread, abs=0.004)
    assert found.high == pytest.approx(0.75 + spread, abs=0.004)


def test_a_score_that_does_not_exist_has_no_interval() -> None:
    assert "sensitivity" not in intervals(np.array([[0, 3, 0, 7]] * 4), resamples=10)
    with pytest.raises(InputError, match="resamples must be 1 or more, got 0"):
        intervals(np.array([[1, 1, 1, 1]]), resamples=0)


def picture(mask: NDArray[np.bool_], lesion: tuple[int, int, int] = LESION) -> NDArray[np.uint8]:
    image = np.full((*mask.shape, 3), SKIN, np.uint8)
    image[mask] = lesion
    return image


def square(top: int, left: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros((128, 128), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_each_kind_is_told_by_what_makes_it() -> None:
    ordinary = square(40, 40, 48)
    assert traits(picture(ordinary), ordinary).kinds == ()
    tiny = square(60, 60, 8)
    assert "tiny" in traits(picture(tiny), tiny).kinds
    border = square(0, 40, 48)
    assert traits(picture(border), border).kinds == ("touching the border",)
    faint = traits(picture(ordinary, (212, 170, 152)), ordinary)
    assert faint.kinds == ("low contrast",) and faint.contrast == pytest.approx(15, abs=1)
    hairy = picture(ordinary)
    hairy[:, ::8] = 40
    assert "hair" in traits(hairy, ordinary).kinds
    inked = picture(ordinary)
    inked[:24, :24] = (60, 40, 130)
    assert "ink or cloth" in traits(inked, ordinary).kinds
    assert "huge" in traits(picture(square(8, 8, 110)), square(8, 8, 110)).kinds


def test_an_empty_mask_has_no_contrast() -> None:
    empty = np.zeros((64, 64), bool)
    assert traits(picture(empty), empty).contrast is None
    assert traits(picture(~empty), ~empty).contrast is None


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 5, 0), "where there is none"),
        ((0, 0, 5), "finds nothing"),
        ((0, 5, 5), "another place"),
        ((10, 50, 2), "too much"),
        ((10, 2, 50), "too little"),
        ((10, 5, 5), "another border"),
    ],
)
def test_verdicts(counts: tuple[int, int, int], words: str) -> None:
    assert words in verdict(*counts)


class Half:
    """A runner that calls the left half lesion."""

    contract = ModelContract(64, 64)
    name = precision_note = "half"

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        probability = np.zeros((*images.shape[:3], 1), np.float32)
        probability[:, :, :32] = 1
        return probability

    def bind(self, images: NDArray[np.uint8]) -> object:  # pragma: no cover - not timed here
        raise NotImplementedError


def evaluated(count: int) -> tuple[Evaluation, LabelledImages]:
    images = synthetic_images(count)
    return evaluate(Half(), images.load(Half.contract)), images  # type: ignore[arg-type]


def test_the_page_tells_scores_intervals_and_the_worst_images() -> None:
    evaluation, images = evaluated(14)
    worst = worst_images(evaluation, images, Half.contract, count=12)
    assert [one.jaccard for one in worst] == sorted(one.jaccard for one in worst)
    assert len(worst) == 12
    page = accuracy_page("half.tflite", evaluation, images, worst)
    assert f"{100 * evaluation.scores.iou:.2f}" in page and "Synthetic images" in page
    assert "79.81" in page and "MALUNet" in page
    assert all(f"| {one.id} | {one.jaccard:.3f} |" in page for one in worst)
