"""A student and the reference that learn from each other."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import static_models
from egeunet.model import ModelContract
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.losses import deep_supervision_loss
from egeunet.model.pictures import Pictures
from egeunet.quantize.distillation import Distillation
from egeunet.quantize.finetune import Finetuner
from egeunet.quantize.finetune_plan import FinetunePlan, Phase
from egeunet.quantize.finetune_result import finetuned_recipe
from egeunet.quantize.finetune_validation import Validation, masks_of
from egeunet.quantize.mutual import MutualLoss, Pair
from egeunet.quantize.taps import TappedNetwork

IMAGES = static_models.images(2)
MASKS = (IMAGES[:, :1] > 0.5).float()
CONTRACT = ModelContract(64, 64)
PLAN = FinetunePlan(
    phases=(Phase("float", 1, 3e-4), Phase("integer", 1, 1e-4)), batch=4, mutual=1.0
)


def networks() -> tuple[TappedNetwork, TappedNetwork]:
    """A student (any network will do) and a reference, both trainable."""
    student = static_models.random_network(1).requires_grad_(True)
    return TappedNetwork(student), TappedNetwork(
        static_models.random_network(2).requires_grad_(True)
    )


def pictures(count: int, seed: int) -> Pictures:
    data = synthetic_dataset(count, 64, seed)
    return Pictures.from_arrays(data.images, data.masks)


def test_the_loss_is_the_student_s_and_the_reference_s() -> None:
    student, reference = networks()
    teacher = copy.deepcopy(reference).eval()
    mutual = MutualLoss(teacher, IMAGES, 0.5, 0.1)
    mutual.mutual = 2.0
    found = mutual(Pair(student, reference), IMAGES, MASKS)
    of_student = Distillation(teacher, IMAGES, 0.5, 0.1)(student, IMAGES, MASKS)
    output = reference.model(IMAGES)
    wanted = torch.sigmoid(student.model(IMAGES).logits)
    own = deep_supervision_loss(output, MASKS)
    own = own + 2 * F.binary_cross_entropy_with_logits(output.logits, wanted)
    assert found.item() == pytest.approx((of_student + own).item(), rel=1e-5)


def test_neither_moves_the_other_by_its_own_loss() -> None:
    """Each is a fixed target for the other: the gradient of both is that of each alone."""
    student, reference = networks()
    teacher = copy.deepcopy(reference).eval()
    mutual = MutualLoss(teacher, IMAGES, 0.5, 0.1)
    mutual.mutual = 0.0
    mutual(Pair(student, reference), IMAGES, MASKS).backward()
    together = reference.model.final.weight.grad.clone()  # type: ignore[union-attr]
    reference.zero_grad()
    deep_supervision_loss(reference.model(IMAGES), MASKS).backward()
    alone = reference.model.final.weight.grad
    assert torch.allclose(together, alone, rtol=1e-4)  # type: ignore[arg-type]


def test_a_pair_is_validated_against_its_own_reference() -> None:
    student, reference = networks()
    held_out = pictures(2, 1)
    measure = Validation(static_models.random_network(3), CONTRACT, held_out)
    found = measure(Pair(student, reference))
    other = Validation(reference.model, CONTRACT, held_out)(student)
    assert found == other
    assert measure(Pair(student, student)).mask_iou == 1.0


def test_a_mutual_run_moves_both_and_its_recipe_is_of_the_new_reference(tmp_path: Path) -> None:
    model = static_models.random_network()
    before = copy.deepcopy(model.state_dict())
    run = Finetuner(
        PLAN, model, CONTRACT, pictures(8, 0), pictures(2, 1), tmp_path,
        compiled=False, progress=False,
    )  # fmt: skip
    network = run.run()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    moved = run.reference.state_dict()
    assert sum(not torch.equal(moved[name], value) for name, value in before.items()) > 100
    recipe = finetuned_recipe(run, network, "ab" * 32, "8 synthetic")
    last = run.state.log[-1]
    assert recipe.details["reference_iou"] == pytest.approx(last["reference_iou"])
    assert recipe.details["mask_iou"] == pytest.approx(last["mask_iou"])
    masks = masks_of(run.reference, CONTRACT, run.validation.pictures.images)
    assert masks.shape == (2, 64, 64) and masks.dtype == np.bool_


def test_a_fixed_reference_stays_fixed(tmp_path: Path) -> None:
    model = static_models.random_network()
    run = Finetuner(
        replace(PLAN, mutual=0.0), model, CONTRACT, pictures(8, 0), pictures(2, 1), tmp_path,
        compiled=False, progress=False,
    )  # fmt: skip
    run.run()
    before = model.state_dict()
    assert all(torch.equal(value, before[n]) for n, value in run.reference.state_dict().items())
