"""The reference's inner maps, and the loss against them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

import static_models
from egeunet.model.losses import bce_dice
from egeunet.quantize.distillation import Distillation
from egeunet.quantize.taps import TappedNetwork

IMAGES = static_models.images(2)
PLACES = {f"{part}{n}" for part in ("encoder", "decoder", "GAB") for n in range(1, 6)} | {
    "encoder6"
}


def test_every_place_of_the_network_is_tapped() -> None:
    model = static_models.random_network()
    tapped = TappedNetwork(copy.deepcopy(model))
    logits, maps = tapped(IMAGES)
    assert torch.equal(logits, model(IMAGES).logits)
    assert maps.keys() == PLACES
    assert maps["encoder1"].shape == (2, 8, 32, 32)
    assert maps["encoder6"].shape == (2, 64, 2, 2)
    assert maps["decoder5"].shape == (2, 8, 16, 16)
    assert maps["GAB1"].shape == (2, 8, 32, 32)
    x = model.ebn1(model.encoder1(IMAGES))
    assert torch.equal(maps["encoder1"], F.max_pool2d(x, 2))


def test_a_copy_has_taps_of_its_own() -> None:
    """A copied hook would write into the original."""
    tapped = TappedNetwork(static_models.random_network())
    copied = copy.deepcopy(tapped).train()
    with torch.no_grad():
        copied.model.encoder1[0].bias += 1
    first = tapped(IMAGES)[1]["encoder1"]
    _, second = copied(IMAGES)
    assert second.keys() == PLACES
    assert not torch.equal(second["encoder1"], first)
    assert torch.equal(tapped(IMAGES)[1]["encoder1"], first)
    assert copied.training


def test_a_perfect_student_pays_the_teacher_s_entropy_and_the_truth_only() -> None:
    teacher = TappedNetwork(static_models.random_network())
    loss = Distillation(teacher, IMAGES, truth=0.5, maps=1.0)
    masks = torch.zeros(2, 1, 64, 64)
    logits = teacher(IMAGES)[0]
    entropy = F.binary_cross_entropy_with_logits(logits, torch.sigmoid(logits))
    student = copy.deepcopy(teacher)
    assert float(loss(student, IMAGES, masks)) == pytest.approx(
        float(entropy + 0.5 * bce_dice(logits, masks)), rel=1e-5
    )
    with torch.no_grad():
        student.model.ebn4.bias += 0.5
    assert loss(student, IMAGES, masks) > entropy + 0.5 * bce_dice(logits, masks)


def test_the_distance_of_maps_is_in_units_of_their_variance() -> None:
    teacher = TappedNetwork(static_models.random_network())
    loss = Distillation(teacher, IMAGES, truth=0.0, maps=1.0)
    goals = {place: value for place, value in teacher(IMAGES)[1].items() if place == "decoder3"}
    variance = goals["decoder3"].var((0, 2, 3), correction=0)
    moved = {"decoder3": goals["decoder3"] + 2 * variance.sqrt()[:, None, None]}
    found = float(loss.distance(moved, goals))
    # Nearly flat channels count less.
    expected = 4 * (variance / variance.clamp(min=0.05 * float(variance.mean()))).mean()
    assert found == pytest.approx(float(expected), rel=1e-3)
    # A place that the student lacks does not count.
    goals["GAB1"] = torch.zeros(1)
    assert float(loss.distance(moved, goals)) == found
