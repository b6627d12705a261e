"""Augmentation: reproducible, image and mask together, and nothing where all is off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from egeunet.model.augment import Augmentation
from egeunet.model.errors import InputError

OFF = Augmentation(
    flip=False,
    rotate=0,
    zoom=(1, 1),
    stretch=0,
    shear=0,
    shift=0,
    gain=0,
    brightness=0,
    contrast=0,
    saturation=0,
)
GEOMETRY = replace(Augmentation(), gain=0, brightness=0, contrast=0, saturation=0)
CHANGES = ("flip", "rotate", "zoom", "stretch", "shear", "shift", "all")
#: float32 sampling positions are off by some 1e-7 of a side, so values by this much.
ROUNDING = 1e-5


def batch(count: int = 4, height: int = 32, width: int = 64) -> tuple[Tensor, Tensor]:
    """Noise, and a mask that is the image's red channel."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, height, width, generator=generator)
    images[:, 0] = images[:, 0].round()
    return images, images[:, :1].clone()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_the_generator_decides_the_result(seed: int) -> None:
    images, masks = batch()
    augment = replace(Augmentation(), blank=0.5)
    one, two = (augment(images, masks, rng(seed)) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    other = augment(images, masks, rng(seed + 1))
    assert not torch.equal(one[0], other[0])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_shapes_and_ranges_stay(seed: int) -> None:
    images, masks = batch()
    before = images.clone(), masks.clone()
    new_images, new_masks = replace(Augmentation(), blank=1.0)(images, masks, rng(seed))
    for old, new, kept in zip((images, masks), (new_images, new_masks), before, strict=True):
        assert new.shape == old.shape and new.dtype == torch.float32
        assert new.min() >= 0 and new.max() <= 1
        assert torch.equal(old, kept), "the caller's tensors were changed"


def test_all_off_changes_nothing() -> None:
    images, masks = batch()
    new_images, new_masks = OFF(images, masks, rng())
    assert (new_images - images).abs().max() <= ROUNDING
    assert (new_masks - masks).abs().max() <= ROUNDING


def test_a_pure_flip_mirrors_the_axes_and_uses_all_four_ways() -> None:
    images, masks = batch(count=32)
    new_images, new_masks = replace(OFF, flip=True)(images, masks, rng())
    ways: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2)]
    used = []
    for image, mask, new_image, new_mask in zip(images, masks, new_images, new_masks, strict=True):
        fits = [
            axes
            for axes in ways
            if (new_image - image.flip(axes)).abs().max() <= ROUNDING
            and (new_mask - mask.flip(axes)).abs().max() <= ROUNDING
        ]
        assert len(fits) == 1
        used.append(fits[0])
    assert set(used) == set(ways)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(CHANGES))
def test_image_and_mask_move_together(seed: int, change: str) -> None:
    images, masks = batch()
    augment = GEOMETRY if change == "all" else replace(OFF, **{change: getattr(GEOMETRY, change)})
    new_images, new_masks = augment(images, masks, rng(seed))
    assert (new_images[:, :1] - new_masks).abs().max() <= ROUNDING
    assert change == "flip" or not torch.allclose(new_masks, masks, atol=1e-3)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_colour_leaves_the_mask_alone(seed: int) -> None:
    images, masks = batch()
    colour = replace(OFF, gain=0.1, brightness=0.2, contrast=0.2, saturation=0.2, blank=1.0)
    new_images, new_masks = colour(images, masks, rng(seed))
    assert (new_masks - masks).abs().max() <= ROUNDING
    assert not torch.allclose(new_images, images, atol=1e-2)


def test_images_of_a_batch_change_each_in_their_own_way() -> None:
    image, mask = (part.expand(6, -1, -1, -1) for part in batch(count=1))
    new_images, _ = Augmentation()(image, mask, rng())
    for index in range(1, 6):
        assert not torch.allclose(new_images[0], new_images[index], atol=1e-2)


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    images, masks = batch(height=32, width=32)

    class Always90(np.random.Generator):
        def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
            return np.full(size, high)  # the end of each range

    quarter = replace(OFF, rotate=90)(images, masks, Always90(np.random.PCG64(0)))
    turned = [images.rot90(k, (2, 3)) for k in (1, 3)]
    assert min((quarter[0] - t).abs().max().item() for t in turned) <= ROUNDING


def test_zoom_above_one_enlarges() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 24:40, 24:40] = 1
    images = mask.expand(-1, 3, -1, -1)
    for factor in (2.0, 0.5):
        _, zoomed = replace(OFF, zoom=(factor, factor))(images, mask, rng())
        centre = zoomed[..., 12:52, 12:52]  # at 0.5, the borders show reflections
        assert centre.sum().item() == pytest.approx(mask.sum().item() * factor**2, rel=0.05)


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"zoom": (0.0, 1.0)}, r"zoom must be two growing positive numbers, got \(0.0, 1.0\)"),
        ({"zoom": (1.2, 0.8)}, "zoom must be two growing positive numbers"),
        ({"rotate": -10.0}, "rotate must be 0 or more, got -10.0"),
        ({"blank": float("nan")}, "blank must be 0 or more, got nan"),
        ({"gain": float("inf")}, "gain must be 0 or more, got inf"),
        ({"paste": -0.5}, "paste must be 0 or more, got -0.5"),
    ],
)
def test_bad_ranges_are_named(values: dict[str, Any], seen: str) -> None:
    with pytest.raises(InputError, match=seen):
        Augmentation(**values)


def test_restyled_images_take_their_neighbours_colours_in_part() -> None:
    images, masks = batch(3)
    images = images * torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1, 1)
    restyled, same = replace(OFF, restyle=1.0)(images, masks, rng())
    assert torch.allclose(same, masks, atol=ROUNDING)
    means, before = restyled.mean((2, 3)), images.mean((2, 3))
    neighbours = before.roll(1, 0)
    low, high = torch.minimum(before, neighbours), torch.maximum(before, neighbours)
    assert ((means >= low - 0.05) & (means <= high + 0.05)).all()
    assert (means - before).abs().max() > 0.02
    untouched, _ = replace(OFF, restyle=1e-12)(images, masks, rng())
    assert torch.allclose(untouched, images, atol=10 * ROUNDING)


def test_blank_pictures_are_restyled_to_finite_values() -> None:
    images = torch.stack((torch.zeros(3, 8, 8), torch.rand(3, 8, 8)))
    restyled, _ = replace(OFF, restyle=1.0)(images, torch.zeros(2, 1, 8, 8), rng())
    assert torch.isfinite(restyled).all() and restyled.min() >= 0 and restyled.max() <= 1


def discs(*radii: int) -> tuple[Tensor, Tensor]:
    """A lesion in each picture, 0.2 below its skin, every skin of its own colour."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    far = (y - 32) ** 2 + (x - 32) ** 2
    masks = torch.stack([(far <= radius**2).float()[None] * (radius > 0) for radius in radii])
    skins = torch.rand(len(radii), 3, 1, 1, generator=torch.Generator().manual_seed(1))
    return 0.4 + 0.4 * skins - 0.2 * masks, masks


def test_the_larger_lesion_of_the_image_before_is_pasted_on_this_ones_skin() -> None:
    images, masks = discs(20, 8, 12)
    new_images, new_masks = replace(OFF, paste=1.0)(images, masks, rng())
    expected = torch.stack((masks[0], masks[0], masks[2]))  # 12 < 20, 20 > 8, 8 < 12
    assert torch.allclose(new_masks, expected, atol=ROUNDING)
    assert torch.allclose(new_images[[0, 2]], images[[0, 2]], atol=10 * ROUNDING)
    skin, lesion = new_images[1, :, 0, 0], new_images[1, :, 32, 32]
    assert torch.allclose(skin, images[1, :, 0, 0], atol=10 * ROUNDING)
    assert torch.allclose(skin - lesion, torch.full((3,), 0.2), atol=1e-3)
    untouched, _ = replace(OFF, paste=1e-12)(images, masks, rng())
    assert torch.allclose(untouched, images, atol=10 * ROUNDING)


def test_what_a_pasted_lesion_leaves_in_sight_stays_lesion() -> None:
    images, masks = discs(20, 8)
    masks[1] = masks[1].roll(24, 2)  # most of the small one lies beside the large one
    images[1] = images[1].roll(24, 2)
    _, new_masks = replace(OFF, paste=1.0)(images, masks, rng())
    assert new_masks[1, 0, 32, 32] == 1 and new_masks[1, 0, 32, 62] == 1
    assert new_masks[1].sum() > masks[0].sum()


def test_a_lesion_without_skin_is_not_pasted() -> None:
    images, masks = discs(60, 8)  # nothing but lesion in the first
    new_images, new_masks = replace(OFF, paste=1.0)(images, masks, rng())
    assert torch.allclose(new_masks, masks, atol=ROUNDING)
    assert torch.allclose(new_images, images, atol=10 * ROUNDING)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_pasting_keeps_shapes_and_ranges(seed: int) -> None:
    images, masks = batch()
    masks = masks * torch.tensor([1.0, 0.0, 1.0, 1.0]).view(4, 1, 1, 1)  # one without a lesion
    new_images, new_masks = replace(Augmentation(), paste=1.0)(images, masks, rng(seed))
    for old, new in ((images, new_images), (masks, new_masks)):
        assert new.shape == old.shape and torch.isfinite(new).all()
        assert new.min() >= 0 and new.max() <= 1
