"""Metrics against scikit-learn, and the cases that scikit-learn leaves open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from egeunet.model.errors import InputError
from egeunet.model.metrics import (
    Scores,
    agreement,
    counts,
    dice,
    jaccard,
    mask_iou,
    scores,
)

EMPTY = np.zeros((1, 4, 4), dtype=bool)
FULL = np.ones((1, 4, 4), dtype=bool)


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of masks with 0 to 100 % of lesion, so empty and full ones occur."""
    shape = tuple(draw(st.integers(1, high)) for high in (6, 12, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = [draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0])) for _ in range(2)]
    a, b = (generator.random(shape) < level for level in levels)
    if draw(st.booleans()):  # agreeing pairs, so that thresholded Jaccard is not always 0
        b = a ^ (generator.random(shape) < 0.05)
    return a, b


@settings(deadline=None, max_examples=150)
@given(mask_pairs())
def test_scores_agree_with_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    ours = scores(counts(prediction, truth))
    p, t = prediction.ravel(), truth.ravel()

    def close(ours: float | None, theirs: float) -> None:
        assert ours is not None
        assert abs(ours - theirs) <= 1e-12

    close(ours.iou, sk.jaccard_score(t, p, zero_division=1))
    close(ours.dice, sk.f1_score(t, p, zero_division=1))
    close(ours.accuracy, sk.accuracy_score(t, p))
    if t.any():
        close(ours.sensitivity, sk.recall_score(t, p))
    else:
        assert ours.sensitivity is None
    if not t.all():
        close(ours.specificity, sk.recall_score(t, p, pos_label=0))
    else:
        assert ours.specificity is None
    each = [
        sk.jaccard_score(t.ravel(), p.ravel(), zero_division=1)
        for p, t in zip(prediction, truth, strict=True)
    ]
    close(ours.mean_jaccard, float(np.mean(each)))
    close(ours.thresholded_jaccard, float(np.mean([j if j >= 0.65 else 0.0 for j in each])))
    each_dice = [
        sk.f1_score(t.ravel(), p.ravel(), zero_division=1)
        for p, t in zip(prediction, truth, strict=True)
    ]
    close(ours.mean_dice, float(np.mean(each_dice)))
    assert ours.constant_masks == sum(len(np.unique(mask)) == 1 for mask in prediction)
    assert ours.images == len(prediction)


@settings(deadline=None, max_examples=30)
@given(mask_pairs())
def test_counts_are_the_confusion_matrix_and_add_up(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = pair
    table = counts(prediction, truth)
    assert table.dtype == np.int64
    assert table.shape == (len(prediction), 4)
    tn, fp, fn, tp = sk.confusion_matrix(truth.ravel(), prediction.ravel(), labels=[0, 1]).ravel()
    assert table.sum(axis=0).tolist() == [tp, fp, fn, tn]
    halves = [counts(prediction[i::2], truth[i::2]) for i in range(2) if len(prediction[i::2])]
    joined = scores(np.concatenate(halves)).to_dict()
    for name, value in scores(table).to_dict().items():
        assert joined[name] == (pytest.approx(value, abs=1e-12) if name != "protocol" else value)


@pytest.mark.parametrize(
    ("prediction", "truth", "index", "pooled", "sensitivity", "specificity", "constant"),
    [
        (EMPTY, EMPTY, 1.0, 1.0, None, 1.0, 1),
        (FULL, FULL, 1.0, 1.0, 1.0, None, 1),
        (FULL, EMPTY, 0.0, 0.0, None, 0.0, 1),
        (EMPTY, FULL, 0.0, 0.0, 0.0, None, 1),
    ],
)
def test_empty_and_full_masks(
    prediction: np.ndarray,
    truth: np.ndarray,
    index: float,
    pooled: float,
    sensitivity: float | None,
    specificity: float | None,
    constant: int,
) -> None:
    table = counts(prediction, truth)
    assert jaccard(table).tolist() == [index]
    assert dice(table).tolist() == [index]
    result = scores(table)
    assert (result.iou, result.dice) == (pooled, pooled)
    assert (result.mean_jaccard, result.thresholded_jaccard) == (index, index)
    assert (result.sensitivity, result.specificity) == (sensitivity, specificity)
    assert result.constant_masks == constant


def test_pooled_and_mean_differ_and_the_threshold_is_inclusive() -> None:
    # 13 of 20 is exactly the threshold and counts; 12 of 20 does not.
    table = np.array([[13, 7, 0, 80], [12, 0, 8, 80], [100, 0, 0, 0]], dtype=np.int64)
    result = scores(table)
    assert result.iou == 125 / 140
    assert result.mean_jaccard == pytest.approx((0.65 + 0.6 + 1.0) / 3, abs=1e-15)
    assert result.thresholded_jaccard == pytest.approx((0.65 + 0.0 + 1.0) / 3, abs=1e-15)
    assert result.dice == 250 / 265
    assert result.constant_masks == 1  # the third is all lesion


def test_report_names_are_the_promised_ones() -> None:
    result = scores(counts(FULL, FULL), "words")
    assert isinstance(result, Scores)
    assert list(result.to_dict()) == [
        "images",
        "protocol",
        "iou",
        "dice",
        "mean_jaccard",
        "mean_dice",
        "thresholded_jaccard",
        "sensitivity",
        "specificity",
        "accuracy",
        "constant_masks",
    ]
    assert json.loads(json.dumps(result.to_dict()))["protocol"] == "words"


def test_counts_beyond_32_bits() -> None:
    table = np.full((3, 4), 2**40, dtype=np.int64)
    assert scores(table).iou == 1 / 3


def test_agreement_between_two_mask_sets() -> None:
    a, b = EMPTY.copy(), EMPTY.copy()
    a[0, 0] = True
    b[0, :2] = True
    assert agreement(a, b) == 12 / 16
    assert mask_iou(a, b) == 0.5
    assert agreement(a[..., None], b[..., None]) == 12 / 16  # as runners give it
    assert agreement(a, a) == mask_iou(a, a) == mask_iou(EMPTY, EMPTY) == 1.0


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        (EMPTY.astype(np.float32), EMPTY, "prediction must be .* bool .* float32"),
        (EMPTY, EMPTY[0], "truth must be"),
        (EMPTY, np.zeros((1, 4, 5), dtype=bool), r"\(1, 4, 4\) but truth is \(1, 4, 5\)"),
        (EMPTY[:0], EMPTY[:0], "non-empty"),
    ],
)
def test_unusable_masks_are_named(prediction: np.ndarray, truth: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        counts(prediction, truth)


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((0, 4), dtype=np.int64),
        np.zeros((2, 4), dtype=np.int64),
        np.array([[1, -1, 2, 3]]),
        np.ones((2, 3), dtype=np.int64),
        np.ones((2, 4)),
    ],
)
def test_unusable_counts_are_refused(table: np.ndarray) -> None:
    with pytest.raises(InputError, match="counts"):
        scores(table)
