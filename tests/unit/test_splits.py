"""Split CSVs, hostile ones too, and the held-out part."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from egeunet.model.data.dataset import Sample, find_dataset, hold_out, without
from egeunet.model.errors import InputError


def plain(root: Path, *ids: str) -> None:
    for id in ids:
        for folder in (root / "images", root / "masks"):
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (12, 8)).save(folder / f"{id}.png")


def write_csv(root: Path, *lines: str, name: str = "split.csv") -> Path:
    (root / name).write_bytes("\n".join(lines).encode())
    return root / name


def test_split_csv_overrides_folders(tmp_path: Path) -> None:
    plain(tmp_path / "train", "a", "b")
    plain(tmp_path / "val", "c")
    write_csv(tmp_path, "\ufeffid,split,official_part", "a,test,train", "", "c,train,val")
    dataset = find_dataset(tmp_path)
    assert {s.id: s.split for s in dataset.samples} == {"a": "test", "b": "unlisted", "c": "train"}


def test_named_split_csv_wins_over_the_found_one(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    write_csv(tmp_path, "id,split", "a,test")
    other = write_csv(tmp_path, "split,id", "holdout,a", name="mine.csv")
    assert find_dataset(tmp_path).splits == {"test": 1}
    assert find_dataset(tmp_path, split_csv=other).splits == {"holdout": 1}


def test_several_split_csvs_must_be_named(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    one = write_csv(tmp_path, "id,split", "a,test", name="split_1.csv")
    write_csv(tmp_path, "id,split", "a,train", name="split_2.csv")
    with pytest.raises(InputError, match=r"split_1\.csv, split_2\.csv.*--split-csv"):
        find_dataset(tmp_path)
    assert find_dataset(tmp_path, split_csv=one).splits == {"test": 1}


@pytest.mark.parametrize(
    "id",
    ["../../etc/x", "/etc/passwd", "", "a/b", "a\\b", "..", ".a", " a", "a\0b", "a\tb", "x" * 201],
)
def test_hostile_ids_are_refused(tmp_path: Path, id: str) -> None:
    plain(tmp_path, "a")
    path = write_csv(tmp_path, "id,split", "a,train", f"{id},train")
    with pytest.raises(InputError, match=r"split\.csv") as caught:
        find_dataset(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
    if id != "a\0b":  # some versions of the csv module refuse the whole file
        assert "line 3" in str(caught.value)
    with pytest.raises(InputError, match="id "):
        Sample(id, Path("a.jpg"), None, "train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id,part", "a,train"], r"line 1: no column 'split'; found \['id', 'part'\]"),
        (["a,train"], "line 1: no column 'id' and 'split'"),
        ([], "line 1: no column"),
        (["id,split"], "no rows"),
        (["id,split", "a,train", "zz,train"], "line 3: unknown id 'zz'"),
        (["id,split", "a,train", "a,test"], "line 3: duplicate id 'a', first on line 2"),
        (["id,split", "a"], "line 2: the number of fields differs"),
        (["id,split", "a,train,b"], "line 2: the number of fields differs"),
        (["id,split", "a,"], "line 2: split ''"),
        (["id,split", "a,../x"], r"line 2: split '\.\./x'"),
        (["id,split", '"a'], "not a readable CSV"),
    ],
)
def test_bad_split_csv_names_the_line(tmp_path: Path, lines: list[str], message: str) -> None:
    plain(tmp_path, "a")
    write_csv(tmp_path, *lines)
    with pytest.raises(InputError, match=message):
        find_dataset(tmp_path)


def test_split_csv_that_is_no_text_or_missing(tmp_path: Path) -> None:
    plain(tmp_path, "a")
    (tmp_path / "b.csv").write_bytes(b"id,split\n\xff\xfe\x00")
    with pytest.raises(InputError, match=r"b\.csv: not a readable CSV"):
        find_dataset(tmp_path, split_csv=tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"split file not found: .*c\.csv"):
        find_dataset(tmp_path, split_csv=tmp_path / "c.csv")


# --- parts -----------------------------------------------------------------------------


def test_hold_out_depends_on_the_ids_only() -> None:
    ids = [f"id_{number:03d}" for number in range(47)]
    train, held = hold_out(ids)
    assert held == ("id_007", "id_022", "id_037")
    assert sorted(train + held) == ids
    assert hold_out(ids[::-1]) == (train, held)
    samples = [Sample(id, Path(f"{id}.jpg"), None, "train") for id in ids]
    assert tuple(sample.id for sample in hold_out(samples)[1]) == held


@pytest.mark.parametrize(("count", "every"), [(10, 1), (10, 0), (10, 11), (0, 15)])
def test_hold_out_refuses_what_leaves_a_part_empty(count: int, every: int) -> None:
    with pytest.raises(InputError, match=f"every {every}th of {count}"):
        hold_out([str(number) for number in range(count)], every)


def test_without_keeps_order_and_takes_ids_or_samples() -> None:
    samples = [Sample(id, Path(f"{id}.jpg"), None, "train") for id in "cab"]
    assert [sample.id for sample in without(samples, {"a", "zz"})] == ["c", "b"]
    assert without("cab", frozenset("b")) == ("c", "a")
