"""egeunet-data as it is installed: output, exit codes, files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def made(run_command: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic pictures written by the command itself."""
    out = tmp_path_factory.mktemp("made") / "pictures"
    result = run_command("egeunet-data", "synthetic", "--out", out, "--count", 3, "--size", 48)
    assert result.returncode == 0, result.stderr
    assert "3 synthetic images" in result.stdout
    return out


def fails(result: CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("egeunet-data")
    for word in words:
        assert word in result.stderr


def test_synthetic_writes_labelled_pngs(made: Path) -> None:
    names = [f"synthetic_{index:04d}.png" for index in range(3)]
    for folder in ("images", "masks"):
        assert sorted(path.name for path in (made / folder).iterdir()) == names
    assert np.asarray(Image.open(made / "images" / names[0])).shape == (48, 48, 3)


def test_synthetic_does_not_touch_a_folder_in_use(run_command: Run, made: Path) -> None:
    fails(run_command("egeunet-data", "synthetic", "--out", made), "exists already")
    fails(run_command("egeunet-data", "synthetic", "--out", made / "x", "--count", 0), "count")
    fails(run_command("egeunet-data", "synthetic", "--out", made / "x", "--size", -5), "size")
    assert not (made / "x").exists()


def test_check_reports_and_writes_json(run_command: Run, made: Path, tmp_path: Path) -> None:
    result = run_command("egeunet-data", "check", made, "--json", tmp_path / "r.json")
    assert result.returncode == 0, result.stderr
    for line in ("layout   images + masks", "splits   all 3", "sizes    48x48 3", "no problems"):
        assert line in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["schema_version"] == 1
    assert report["images"] == report["masks"] == 3
    assert report["splits"] == {"all": 3}
    assert 0.0 < report["lesion_area"]["0.5"] < 1.0
    assert report["problems"] == []


def test_check_lists_twenty_problems_and_counts_the_rest(run_command: Run, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index in range(25):
        (tmp_path / "images" / f"p{index:02d}.png").write_bytes(b"")
        Image.new("L", (4, 4)).save(tmp_path / "masks" / f"p{index:02d}.png")
    result = run_command("egeunet-data", "check", tmp_path)
    assert result.returncode == 2
    assert result.stdout.count("empty file (0 bytes)") == 20
    assert "+5 more" in result.stdout
    assert result.stdout.splitlines()[-1] == "25 problems"
    assert "Traceback" not in result.stderr


def test_check_without_masks(run_command: Run, made: Path) -> None:
    assert run_command("egeunet-data", "check", made / "images", "--no-masks").returncode == 0
    fails(run_command("egeunet-data", "check", made / "images"), "no data set found")


def test_check_of_the_real_data(run_command: Run, isic: Path, tmp_path: Path) -> None:
    # A CSV of ten ids and a folder of links keep this short: check decodes everything.
    rows = (isic / "split_1500_650.csv").read_text().splitlines()[1:2150:215]
    for row in rows:
        id, _, part = row.split(",")
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            target = isic / part / kind / f"{id}.{ending}"
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / target.name).symlink_to(target)
    (tmp_path / "split.csv").write_text("\n".join(["id,split,official_part", *rows]))
    result = run_command("egeunet-data", "check", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "splits   train 7, test 3" in result.stdout
    assert "sizes    256x256 10" in result.stdout


def test_prepare_twice(run_command: Run, made: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = run_command(
            "egeunet-data", "prepare", made, "--out", tmp_path / "cache", "--size", 32
        )
        assert result.returncode == 0, result.stderr
        assert "3 images at 32x32" in result.stdout
    assert np.load(tmp_path / "cache" / "images.npy").shape == (3, 32, 32, 3)


def test_prepare_says_what_is_wrong(run_command: Run, made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    prepare = ("egeunet-data", "prepare")
    fails(run_command(*prepare, tmp_path / "none", "--out", tmp_path / "c"), "not found")
    fails(run_command(*prepare, tmp_path / "file", "--out", tmp_path / "c"), "is a file")
    fails(run_command(*prepare, made, "--out", tmp_path / "file" / "c"), "is a file, not a folder")
    fails(run_command(*prepare, made, "--out", tmp_path / "c", "--size", 0), "0x0")
    fails(run_command(*prepare, made, "--out", tmp_path / "c", "--size", "big"), "--size")
    fails(run_command(*prepare, made), "--out")
    csv = tmp_path / "hostile.csv"
    csv.write_text("id,split\n../../etc/x,train\n")
    fails(
        run_command(*prepare, made, "--out", tmp_path / "c", "--split-csv", csv),
        "line 2",
        "../../etc/x",
    )
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder(run_command: Run, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    fails(
        run_command("egeunet-data", "synthetic", "--out", tmp_path / "locked" / "x"),
        "cannot write",
    )


@pytest.mark.parametrize("arguments", [[], ["check"], ["prepare"], ["synthetic"]])
def test_help_shows_runnable_examples(run_command: Run, arguments: list[str]) -> None:
    result = run_command("egeunet-data", *arguments, "--help")
    assert result.returncode == 0
    assert "  egeunet-data " in result.stdout


def test_unknown_command_lists_the_known(run_command: Run) -> None:
    fails(run_command("egeunet-data", "chekc"), "check", "prepare", "synthetic")
