"""Synthetic pictures: the same everywhere, varied, with masks that fit them."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from egeunet.model.data.noise import Canvas, octaves, spline_noise, stroke
from egeunet.model.data.prepared import PreparedData
from egeunet.model.data.synthetic import synthetic_dataset, synthetic_sample
from egeunet.model.errors import InputError


@pytest.fixture(scope="module")
def many() -> PreparedData:
    return synthetic_dataset(96, 64)


def digest(index: int, size: int, seed: int) -> str:
    image, mask = synthetic_sample(index, size, seed)
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()


def test_shapes_types_and_names() -> None:
    data = synthetic_dataset(3, 48, seed=5)
    assert data.images.shape == (3, 48, 48, 3)
    assert data.images.dtype == np.uint8
    assert data.masks.shape == (3, 48, 48)
    assert data.masks.dtype == np.bool_
    assert data.ids == ("synthetic_0000", "synthetic_0001", "synthetic_0002")
    assert set(data.splits) == {"synthetic"}


def test_same_arguments_same_picture_in_this_and_another_process() -> None:
    here = [digest(index, 96, 7) for index in range(4)]
    assert here == [digest(index, 96, 7) for index in range(4)]
    code = (
        "import hashlib\n"
        "from egeunet.model.data.synthetic import synthetic_sample\n"
        "for i in (3, 2, 1, 0):\n"  # another order: a picture does not depend on those before
        "    a, m = synthetic_sample(i, 96, 7)\n"
        "    print(hashlib.sha256(a.tobytes() + m.tobytes()).hexdigest())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == here[::-1]


def test_index_and_seed_change_the_picture() -> None:
    assert len({digest(index, 32, seed) for index in range(5) for seed in range(3)}) == 15


def test_another_size_is_the_same_scene() -> None:
    for index in range(6):
        small, small_mask = synthetic_sample(index, 64)
        large, large_mask = synthetic_sample(index, 256)
        shrunk = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        difference = np.abs(shrunk - small).mean()
        assert difference < 6.0, f"picture {index}: mean difference {difference:.1f} levels"
        assert abs(small_mask.mean() - large_mask.mean()) < 0.01


def test_masks_are_neither_empty_nor_full(many: PreparedData) -> None:
    area = many.masks.mean(axis=(1, 2))
    assert area.min() > 0.0
    assert area.max() < 1.0
    assert (area < 0.005).any(), "some lesions are tiny"
    assert (area > 0.3).any(), "some are large"
    edges = many.masks[:, 0].any(1) | many.masks[:, -1].any(1)
    edges |= many.masks[:, :, 0].any(1) | many.masks[:, :, -1].any(1)
    assert 0.0 < edges.mean() < 0.4, "some, not all, touch the border"


@pytest.mark.parametrize("size", [16, 20])
def test_even_the_smallest_pictures_have_a_lesion(size: int) -> None:
    assert synthetic_dataset(60, size).masks.any(axis=(1, 2)).all()


def test_the_lesion_is_darker_than_the_skin_around_it(many: PreparedData) -> None:
    darker = []
    for image, mask in zip(many.images, many.masks, strict=True):
        gray = image.mean(axis=2)
        darker.append(np.median(gray[~mask]) - np.median(gray[mask]))
    assert np.mean(np.array(darker) > 0) > 0.95
    assert 20 < np.mean(darker) < 90


def test_skin_covers_light_to_dark(many: PreparedData) -> None:
    skin = np.array(
        [np.median(i[~m], axis=0).mean() for i, m in zip(many.images, many.masks, strict=True)]
    )
    assert skin.min() < 110
    assert skin.max() > 200
    # Near ISIC 2017's training part: mean 181, 154, 142; deviation 40, 42, 46.
    pixels = many.images.reshape(-1, 3).astype(float)
    assert np.abs(pixels.mean(0) - (181, 154, 142)).max() < 15
    assert np.abs(pixels.std(0) - (40, 42, 46)).max() < 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 64, 0), "index must be"),
        ((0, 8, 0), "size must be from 16 to 4096, got 8"),
        ((0, 5000, 0), "size must be"),
        ((0, 64, -3), "seed must be"),
    ],
)
def test_arguments_out_of_range(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synthetic_sample(*arguments)
    with pytest.raises(InputError, match="count must be at least 1, got 0"):
        synthetic_dataset(0)


def test_noise_has_mean_zero_and_deviation_near_one() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    for field in (spline_noise(Canvas(256), rng, 40), octaves(Canvas(256), rng, 20, 4)):
        assert abs(field.mean()) < 0.15
        assert 0.8 < field.std() < 1.2


def test_a_stroke_covers_its_area_and_may_leave_the_canvas() -> None:
    line = np.array([[0.2, 0.5], [0.5, 0.5], [0.8, 0.5]])
    cover = stroke(Canvas(200), line, 0.05)
    assert cover.max() <= 1.0
    # It thins from 0.05 to 0.02 over a length of 0.6.
    assert np.isclose(cover.mean(), 0.6 * 0.035, rtol=0.05)
    assert cover[:80].sum() == 0
    assert stroke(Canvas(50), line + 3.0, 0.05).sum() == 0
