"""Which pictures decisions are measured on: never test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egeunet.model.data.cache import prepare
from egeunet.model.data.dataset import KNOWN_LEAKS, find_dataset, hold_out
from egeunet.model.errors import InputError
from egeunet.quantize.held_out import held_out_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 training pictures (one of them a known leak), 3 of val, 4 of test."""
    root = tmp_path_factory.mktemp("data")
    (leak,) = KNOWN_LEAKS
    names = {"train": [*(f"a{i:02}" for i in range(19)), leak]}
    names |= {"val": ["v1", "v2", "v3"], "test": ["t1", "t2", "t3", "t4"]}
    for split, ids in names.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index, id in enumerate(ids):
            pixels = np.full((32, 32), 255 * (index % 2), np.uint8)
            Image.fromarray(pixels).convert("RGB").save(root / split / "images" / f"{id}.png")
            Image.fromarray(pixels).save(root / split / "masks" / f"{id}.png")
    return root


def test_the_part_that_training_holds_out(folder: Path) -> None:
    data = held_out_pictures(folder, 32, 32, every=5)
    ids = [sample.id for sample in find_dataset(folder).split("train")]
    assert data.ids == hold_out([id for id in ids if id not in KNOWN_LEAKS], 5)[1]
    assert set(data.splits) == {"train"} and data.images.shape == (len(data), 32, 32, 3)
    assert not KNOWN_LEAKS & set(held_out_pictures(folder, 32, 32, every=2).ids)


def test_a_cache_gives_the_same(folder: Path, tmp_path: Path) -> None:
    prepare(find_dataset(folder), tmp_path / "cache", 32, 32, progress=False)
    raw = held_out_pictures(folder, 32, 32, every=5)
    cached = held_out_pictures(tmp_path / "cache", 32, 32, every=5)
    assert raw.ids == cached.ids and np.array_equal(raw.images, cached.images)
    assert np.array_equal(raw.masks, cached.masks)


def test_another_split_and_a_limit(folder: Path) -> None:
    assert held_out_pictures(folder, 32, 32, split="val").ids == ("v1", "v2", "v3")
    assert held_out_pictures(folder, 32, 32, split="val", limit=2).ids == ("v1", "v3")
    assert len(held_out_pictures(folder, 32, 32, split="val", limit=50)) == 3


@pytest.mark.parametrize("name", ["test", "Test", "test2"])
def test_the_test_split_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"--split {name}: test images must decide nothing"):
        held_out_pictures(folder, 32, 32, split=name)


def test_a_folder_with_nothing_but_test_images_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "test").symlink_to(folder / "test")
    with pytest.raises(InputError, match=r"only: no split 'all', it has test; give --split"):
        held_out_pictures(tmp_path / "only", 32, 32)


def test_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no split 'other', it has test, train, val"):
        held_out_pictures(folder, 32, 32, split="other")
    with pytest.raises(InputError, match="--limit must be 1 or more, got 0"):
        held_out_pictures(folder, 32, 32, limit=0)
    with pytest.raises(InputError, match="cannot hold out every 50th of 19 pictures"):
        held_out_pictures(folder, 32, 32, every=50)
