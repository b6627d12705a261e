"""Made-up pictures beside a fine-tuning's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egeunet.model import ModelContract, load_weights
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.pictures import Pictures
from egeunet.quantize.finetune_validation import masks_of
from egeunet.quantize.synthetic_pictures import with_synthetic

MODEL = load_weights()[0]


@pytest.mark.parametrize("sides", [(64, 64), (64, 96)])
def test_they_follow_the_others_once_an_epoch_with_the_reference_s_masks(
    sides: tuple[int, int],
) -> None:
    contract = ModelContract(*sides)
    images = np.zeros((3, *sides, 3), np.uint8)
    own = Pictures.from_arrays(images, np.ones((3, *sides), bool), np.array([1, 3, 1]))
    both = with_synthetic(own, 4, MODEL, contract)
    assert both.images.shape == (7, 3, *sides)
    assert both.epoch.tolist() == [0, 1, 1, 1, 2, 3, 4, 5, 6]
    assert torch.equal(both.images[:3], own.images)
    assert torch.equal(both.masks[:3], own.masks)
    masks = masks_of(MODEL, contract, both.images[3:])
    assert np.array_equal(both.masks[3:, 0].numpy(), masks)
    assert both.masks.dtype == torch.bool
    checked = synthetic_dataset(4, 96, seed=1000).resized(*sides)  # the exporter's check
    assert not np.array_equal(both.images[3:].permute(0, 2, 3, 1).numpy(), checked.images)


def test_none_are_none() -> None:
    own = Pictures.from_arrays(np.zeros((1, 64, 64, 3), np.uint8), np.ones((1, 64, 64), bool))
    assert with_synthetic(own, 0, MODEL, ModelContract(64, 64)) is own
