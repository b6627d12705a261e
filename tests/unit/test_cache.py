"""The cache: what goes in comes out, and damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egeunet.model.data.cache import load_prepared, open_cache, prepare
from egeunet.model.data.dataset import Dataset, find_dataset, load_sample
from egeunet.model.data.prepared import PreparedData
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.errors import InputError, OutputError


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic pictures of 64 x 64, three for training."""
    root = tmp_path_factory.mktemp("raw")
    for index, split in enumerate(["train", "train", "train", "test"]):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        image, mask = synthetic_sample(index, 64)
        Image.fromarray(image).save(root / split / "images" / f"s{index}.png")
        Image.fromarray(mask).save(root / split / "masks" / f"s{index}.png")
    return root


@pytest.fixture
def dataset(raw: Path) -> Dataset:
    return find_dataset(raw)


@pytest.fixture
def cache(dataset: Dataset, tmp_path: Path) -> Path:
    prepare(dataset, tmp_path / "cache", 32, 48, progress=False)
    return tmp_path / "cache"


def test_roundtrip_is_exact(dataset: Dataset, cache: Path) -> None:
    data = open_cache(cache)
    assert data.ids == dataset.ids == ("s0", "s1", "s2", "s3")
    assert data.splits == ("train", "train", "train", "test")
    assert data.size == (32, 48)
    assert isinstance(data.images, np.memmap)
    for row, sample in enumerate(dataset.samples):
        image, mask = load_sample(sample, 32, 48)
        np.testing.assert_array_equal(data.images[row], image)
        np.testing.assert_array_equal(data.masks[row], mask)
    assert sorted(path.name for path in cache.iterdir()) == [
        "images.npy",
        "index.json",
        "masks.npy",
    ]
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]


def test_raw_folder_and_cache_give_the_same(raw: Path, cache: Path) -> None:
    for splits in (None, ["test"], ["test", "train"]):
        a = load_prepared(raw, 32, 48, splits=splits)
        b = load_prepared(cache, 32, 48, splits=splits)
        assert (a.ids, a.splits) == (b.ids, b.splits)
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.masks, b.masks)


def test_one_split_only(dataset: Dataset, tmp_path: Path) -> None:
    assert prepare(dataset, tmp_path / "c", 32, 32, ["test"], progress=False).ids == ("s3",)
    with pytest.raises(InputError, match="no split 'val'"):
        prepare(dataset, tmp_path / "d", 32, 32, ["val"], progress=False)
    assert not (tmp_path / "d").exists()


def test_smaller_is_scaled_larger_is_refused(cache: Path) -> None:
    small = load_prepared(cache, 16, 16)
    assert small.images.shape == (4, 16, 16, 3)
    assert small.masks.any(axis=(1, 2)).sum() >= 3
    with pytest.raises(InputError, match="prepared at 32x48, asked for 64x64"):
        load_prepared(cache, 64, 64)
    with pytest.raises(InputError, match="-1x8"):
        load_prepared(cache, -1, 8)
    with pytest.raises(InputError, match="is a cache"):
        load_prepared(cache, 32, 48, split_csv="split.csv")


def test_a_second_run_writes_nothing(dataset: Dataset, cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert prepare(dataset, cache, 32, 48, progress=False).ids == dataset.ids
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def test_another_cache_or_folder_is_not_overwritten(dataset: Dataset, cache: Path) -> None:
    with pytest.raises(OutputError, match="is a cache of other files or of another size"):
        prepare(dataset, cache, 32, 32, progress=False)
    taken = cache.parent / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="taken exists already"):
        prepare(dataset, taken, 32, 32, progress=False)
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]
    (cache.parent / "file").write_text("x")
    with pytest.raises(OutputError, match="file exists already"):
        prepare(dataset, cache.parent / "file", 32, 32, progress=False)
    (cache.parent / "empty").mkdir()
    assert len(prepare(dataset, cache.parent / "empty", 32, 32, progress=False)) == 4


def test_a_bad_picture_leaves_nothing_behind(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        for id in "ab":
            Image.effect_noise((40, 40), 90).save(tmp_path / "raw" / kind / f"{id}.png")
    broken = tmp_path / "raw" / "images" / "b.png"
    broken.write_bytes(broken.read_bytes()[:600])
    with pytest.raises(InputError, match=r"b\.png: "):
        prepare(find_dataset(tmp_path / "raw"), tmp_path / "cache", 32, 32, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: cut(c / "images.npy"), r"images\.npy: broken array file"),
        (lambda c: flip(c / "images.npy"), r"images\.npy was altered"),
        (lambda c: flip(c / "masks.npy"), r"masks\.npy was altered"),
        (lambda c: (c / "masks.npy").unlink(), r"masks\.npy: missing"),
        (lambda c: (c / "masks.npy").write_bytes(b""), r"masks\.npy: broken array file"),
        (lambda c: np.save(c / "masks.npy", np.zeros((4, 32, 32), bool)), "masks must be bool"),
        (lambda c: np.save(c / "images.npy", np.zeros((4, 32, 48, 3))), "images must be uint8"),
        (lambda c: np.save(c / "images.npy", np.array([{}])), "broken array file"),
        (lambda c: (c / "index.json").write_text("{"), "not readable JSON"),
        (lambda c: (c / "index.json").write_text("[]"), "not the index of a cache"),
        (lambda c: edit(c / "index.json", format="other"), "not the index of a cache"),
        (lambda c: edit(c / "index.json", schema_version=9), "schema_version 9"),
        (lambda c: edit(c / "index.json", ids=["a", "b"]), "4 images, 2 ids"),
        (lambda c: edit(c / "index.json", ids=["a"] * 4), "duplicate id 'a'"),
        (lambda c: edit(c / "index.json", ids=None), "broken cache: index.json"),
        (lambda c: edit(c / "index.json", sha256=None), "broken cache: index.json"),
        (lambda c: edit(c / "index.json", sha256={}), "broken cache: index.json"),
        (lambda c: edit(c / "index.json", height=99), "the index says"),
    ],
)
def test_damage_is_named(cache: Path, damage: object, message: str) -> None:
    damage(cache)  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as caught:
        open_cache(cache)
    assert str(cache) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_index_of_another_cache_is_noticed(dataset: Dataset, cache: Path) -> None:
    other = cache.parent / "other"
    prepare(dataset, other, 16, 16, progress=False)
    (cache / "index.json").write_bytes((other / "index.json").read_bytes())
    with pytest.raises(InputError, match="broken cache"):
        open_cache(cache)


def test_not_a_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a cache"):
        open_cache(tmp_path)


def test_prepared_data_selects_by_id() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    data = PreparedData(images, np.zeros((3, 1, 1), bool), ("a", "b", "c"), ("x", "y", "x"))
    assert data.split("x") == ("a", "c")
    picked = data.select(("c", "a"))
    assert picked.images[:, 0, 0, 0].tolist() == [2, 0]
    assert picked.splits == ("x", "x")
    with pytest.raises(InputError, match="unknown id 'z'"):
        data.select(["a", "z"])
    with pytest.raises(InputError, match=r"no split 'z'; there are \['x', 'y'\]"):
        data.split("z")
