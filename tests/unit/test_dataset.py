"""Folder layouts, split CSVs, and the errors that name what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egeunet.model.data.dataset import (
    KNOWN_LEAKS,
    Dataset,
    Sample,
    find_dataset,
    load_images,
    load_sample,
    size_problem,
    without,
)
from egeunet.model.data.report import examine
from egeunet.model.errors import InputError

ISIC2017 = {"Training": "train", "Validation": "val", "Test_v2": "test"}
ISIC2018 = {"Training": "train", "Validation": "val", "Test": "test"}


def picture(path: Path, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 150, 140)).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = Image.new("L", size)
    drawn.paste(255, (3, 2, 9, 6))
    drawn.save(path)
    return path


def plain(root: Path, *ids: str) -> Path:
    for id in ids:
        picture(root / "images" / f"{id}.jpg")
        mask(root / "masks" / f"{id}.png")
    return root


# --- layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("images", "masks", "parts"),
    [
        ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", ISIC2017),
        ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", ISIC2018),
    ],
)
def test_isic_archives_as_they_unpack(
    tmp_path: Path, images: str, masks: str, parts: dict[str, str], nested: bool
) -> None:
    for number, part in enumerate(parts):
        folder, truth = tmp_path / images.format(part), tmp_path / masks.format(part)
        if nested:
            folder, truth = folder / folder.name, truth / truth.name
        for id in (f"ISIC_000{number}1", f"ISIC_000{number}2"):
            picture(folder / f"{id}.jpg")
            picture(folder / f"{id}_superpixels.png")
            mask(truth / f"{id}_segmentation.png")
        (folder / "LICENSE.txt").write_text("CC-0")
        picture(folder / "x.png").rename(folder / "._ISIC_0000001.jpg")
    dataset = find_dataset(tmp_path)
    assert dataset.splits == {"train": 2, "val": 2, "test": 2}
    assert dataset.ids[:3] == ("ISIC_00001", "ISIC_00002", "ISIC_00011")
    assert dataset.layout.startswith("ISIC 201")
    sample = dataset.split("test")[0]
    assert sample.mask is not None
    assert sample.mask.name == "ISIC_00021_segmentation.png"


def test_isic_part_without_ground_truth_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "ISIC-2017_Training_Data" / "ISIC_0000001.jpg")
    with pytest.raises(InputError, match=r"masks folder not found: .*ISIC-2017_Training_Part1"):
        find_dataset(tmp_path)
    assert find_dataset(tmp_path, require_masks=False).samples[0].mask is None


def test_isic_ground_truth_without_images_is_named(tmp_path: Path) -> None:
    mask(tmp_path / "ISIC-2017_Test_v2_Part1_GroundTruth" / "ISIC_1_segmentation.png")
    with pytest.raises(InputError, match=r"images folder not found: .*ISIC-2017_Test_v2_Data"):
        find_dataset(tmp_path)


def test_split_folders_come_in_the_usual_order(tmp_path: Path) -> None:
    for split in ("test", "train", "val"):
        plain(tmp_path / split, f"{split}_1")
    dataset = find_dataset(tmp_path)
    assert [sample.split for sample in dataset.samples] == ["train", "val", "test"]
    assert dataset.layout == "train/val/test folders"


def test_plain_folders_in_any_case_of_letters(tmp_path: Path) -> None:
    plain(tmp_path, "b", "a")
    picture(tmp_path / "images" / "c.PNG")
    mask(tmp_path / "masks" / "c_mask.BMP")
    picture(tmp_path / "images" / "d_mask.png")  # an id may end like a mask's suffix
    mask(tmp_path / "masks" / "d_mask.png")
    (tmp_path / "images" / ".hidden.jpg").write_bytes(b"no picture")
    (tmp_path / "images" / "notes.txt").write_text("x")
    dataset = find_dataset(tmp_path)
    assert dataset.ids == ("a", "b", "c", "d_mask")
    assert dataset.splits == {"all": 4}
    assert len(dataset) == 4


def test_flat_folder_only_where_no_masks_are_required(tmp_path: Path) -> None:
    picture(tmp_path / "b.jpg")
    picture(tmp_path / "a.webp")
    picture(tmp_path / "a_segmentation.png")
    assert find_dataset(tmp_path, require_masks=False).ids == ("a", "b")
    with pytest.raises(InputError, match="no data set found; expected ISIC"):
        find_dataset(tmp_path)


def test_two_layouts_at_once_are_refused(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    plain(tmp_path / "train", "a")
    with pytest.raises(
        InputError, match=r"several layouts at once: train folders, images \+ masks"
    ):
        find_dataset(tmp_path)


def test_real_data_with_the_papers_split(isic: Path) -> None:
    dataset = find_dataset(isic)
    assert dataset.splits == {"train": 1500, "test": 650}
    assert "split_1500_650.csv" in dataset.layout
    train = dataset.split("train")
    assert {sample.id for sample in train} >= KNOWN_LEAKS
    assert len(without(train, KNOWN_LEAKS)) == 1499
    image, lesion = load_sample(train[0], 128, 96)
    assert image.shape == (128, 96, 3)
    assert lesion.shape == (128, 96)
    assert 0.0 < lesion.mean() < 1.0


# --- named errors ----------------------------------------------------------------------


def test_missing_mask(tmp_path: Path) -> None:
    plain(tmp_path, "a", "b")
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(InputError, match=r"missing mask of .*images/b\.jpg: no b\.png in"):
        find_dataset(tmp_path)
    assert find_dataset(tmp_path, require_masks=False).samples[1].mask is None


def test_mask_without_image_and_the_count_of_further_problems(tmp_path: Path) -> None:
    plain(tmp_path, "a", "b", "c")
    for id in "bc":
        (tmp_path / "images" / f"{id}.jpg").unlink()
    with pytest.raises(InputError, match=r"mask without image: .*b\.png.*and 1 more: run egeunet-"):
        find_dataset(tmp_path)


@pytest.mark.parametrize("where", ["images/a.png", "masks/a.bmp", "masks/a_segmentation.png"])
def test_duplicate_ids_in_a_folder(tmp_path: Path, where: str) -> None:
    plain(tmp_path, "a")
    picture(tmp_path / where)
    with pytest.raises(InputError, match=r"duplicate id 'a': .*a.* and .*a"):
        find_dataset(tmp_path)


def test_duplicate_ids_across_parts(tmp_path: Path) -> None:
    plain(tmp_path / "train", "a")
    plain(tmp_path / "test", "a")
    with pytest.raises(InputError, match=r"duplicate id 'a': .*train.*a\.jpg and .*test.*a\.jpg"):
        find_dataset(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "masks").mkdir()
    for name, message in (
        ("nowhere", "data folder not found: .*nowhere"),
        ("file", "file is a file; expected a data folder"),
        ("empty", "empty: no images"),
    ):
        with pytest.raises(InputError, match=message):
            find_dataset(tmp_path / name)


def test_size_mismatch_is_found_on_load_and_from_headers(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    mask(tmp_path / "masks" / "a.png", (8, 12))
    sample = find_dataset(tmp_path).samples[0]
    expected = r"size mismatch: .*a\.jpg is 12x8, its mask .*a\.png is 8x12 \(turned"
    with pytest.raises(InputError, match=expected):
        load_sample(sample, 12, 8)
    assert "size mismatch" in (size_problem(sample) or "")
    mask(tmp_path / "masks" / "a.png")
    assert size_problem(sample) is None


def test_loading_without_masks(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    samples = find_dataset(tmp_path, require_masks=False).samples
    assert load_images(samples, 4, 6).shape == (1, 4, 6, 3)
    with pytest.raises(InputError, match=r"a\.jpg: has no mask"):
        load_sample(samples[0], 4, 6)
    with pytest.raises(InputError, match="-4x6"):
        load_images(samples, -4, 6)


def test_unknown_split_lists_the_known() -> None:
    dataset = Dataset(Path("x"), (Sample("a", Path("a.jpg"), None, "train"),), "plain")
    with pytest.raises(InputError, match=r"no split 'val'; it has \['train'\]"):
        dataset.split("val")
    with pytest.raises(InputError, match="duplicate id 'a'"):
        Dataset(Path("x"), dataset.samples * 2, "plain")


# --- report ----------------------------------------------------------------------------


def test_report_lists_every_problem(tmp_path: Path) -> None:
    plain(tmp_path, *"abcdef")
    (tmp_path / "masks" / "a.png").unlink()
    (tmp_path / "images" / "b.jpg").write_bytes(b"")
    mask(tmp_path / "masks" / "c.png", (6, 8))
    (tmp_path / "masks" / "d.png").write_text("not a picture")
    Image.new("L", (12, 8)).save(tmp_path / "masks" / "e.png")
    (tmp_path / "split.csv").write_text("id,split\nzz,train\nf,test\n")
    report = examine(tmp_path)
    text = "\n".join(report.problems)
    for expected in ("missing mask", "b.jpg: empty", "size mismatch", "d.png: not a J", "'zz'"):
        assert expected in text
    assert len(report.problems) == 5
    assert report.constant_masks == 1
    assert report.images == 6
    assert report.masks == 5
    assert report.sizes == {"12x8": 5}
    assert report.splits == {"unlisted": 5, "test": 1}
    assert np.isclose(report.lesion_area["1.0"], 0.25)
    assert report.lines()[-1] == "5 problems"
