"""The training loss against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from egeunet.model import EGEUNetOutput
from egeunet.model.losses import SIDE_WEIGHTS, bce_dice, deep_supervision_loss


def naive_bce_dice(logits: np.ndarray, target: np.ndarray) -> float:
    """Pixel by pixel, in float64."""
    count, channels, height, width = logits.shape
    entropy, dice = 0.0, 0.0
    for image in range(count):
        overlap = total = 0.0
        for place in np.ndindex(channels, height, width):
            logit, wanted = float(logits[(image, *place)]), float(target[(image, *place)])
            probability = 1.0 / (1.0 + math.exp(-logit))
            entropy -= wanted * math.log(probability) + (1 - wanted) * math.log(1 - probability)
            overlap += probability * wanted
            total += probability + wanted
        dice += (2 * overlap + 1) / (total + 1)
    return entropy / logits.size + 1 - dice / count


def random_case(seed: int, channels: int = 1, soft: bool = True) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    target = rng.uniform(size=(3, channels, 4, 5))
    logits = rng.normal(0, 3, target.shape)
    return torch.from_numpy(logits), torch.from_numpy(target if soft else target.round())


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 3), st.booleans())
def test_bce_dice_is_the_loop_over_pixels(seed: int, channels: int, soft: bool) -> None:
    logits, target = random_case(seed, channels, soft)
    wanted = naive_bce_dice(logits.numpy(), target.numpy())
    assert bce_dice(logits, target).item() == pytest.approx(wanted, abs=1e-12)


def test_pooled_dice_is_that_of_one_large_image() -> None:
    logits, target = random_case(1)
    whole = bce_dice(logits.reshape(1, 1, -1, 5), target.reshape(1, 1, -1, 5))
    assert bce_dice(logits, target, 1.0).item() == pytest.approx(whole.item(), abs=1e-12)
    halves = (bce_dice(logits, target) + whole) / 2
    assert bce_dice(logits, target, 0.5).item() == pytest.approx(halves.item(), abs=1e-12)


def test_a_missed_large_lesion_counts_more_in_pooled_dice() -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, :6], masks[1, :, :1] = 1, 1  # a large and a small lesion

    def loss(missed: int, pooled: float) -> float:
        """1 - Dice of masks of which one is not found at all."""
        logits = 20 * masks - 10
        logits[missed] = -10
        entropy = F.binary_cross_entropy_with_logits(logits, masks)
        return float(bce_dice(logits, masks, pooled) - entropy)

    assert loss(0, pooled=0.0) == pytest.approx(loss(1, pooled=0.0), abs=0.05)
    assert loss(0, pooled=1.0) > 0.7 and loss(1, pooled=1.0) < 0.1


def test_side_maps_count_a_tenth_more_each() -> None:
    assert SIDE_WEIGHTS == (0.1, 0.2, 0.3, 0.4, 0.5)
    (logits, target), sides = random_case(0), [random_case(seed)[0] for seed in range(1, 6)]
    wanted = naive_bce_dice(logits.numpy(), target.numpy()) + sum(
        weight * naive_bce_dice(side.numpy(), target.numpy())
        for weight, side in zip((0.1, 0.2, 0.3, 0.4, 0.5), sides, strict=True)
    )
    loss = deep_supervision_loss(EGEUNetOutput(logits, tuple(sides)), target)
    assert loss.item() == pytest.approx(wanted, abs=1e-12)


def test_without_side_maps_the_loss_is_the_final_maps() -> None:
    logits, target = random_case(0)
    assert deep_supervision_loss(EGEUNetOutput(logits, ()), target) == bce_dice(logits, target)


def test_side_maps_learn_whether_any_class_is_there() -> None:
    logits, target = random_case(0, channels=3)
    side = random_case(1)[0]
    loss = deep_supervision_loss(EGEUNetOutput(logits, (side,)), target)
    foreground = target.numpy().max(axis=1, keepdims=True)
    wanted = naive_bce_dice(logits.numpy(), target.numpy())
    wanted += 0.1 * naive_bce_dice(side.numpy(), foreground)
    assert loss.item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("filled", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-1e4, -5.0, 0.0, 5.0, 1e4])
def test_empty_and_full_masks_give_finite_losses_and_gradients(filled: float, logit: float) -> None:
    logits = torch.full((2, 1, 8, 8), logit, requires_grad=True)
    loss = bce_dice(logits, torch.full((2, 1, 8, 8), filled))
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_a_perfect_map_costs_nothing_and_a_wrong_one_most() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 2:6] = 1
    right = bce_dice((target - 0.5) * 200, target).item()
    wrong = bce_dice((0.5 - target) * 200, target).item()
    assert right == pytest.approx(0.0, abs=1e-6)
    assert wrong > bce_dice(torch.zeros_like(target), target).item() > right
