"""Prediction: names, shards, pictures, and what a rerun does after any kind of end."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from egeunet.benchmarks.pictures import find_pictures
from egeunet.benchmarks.predict import Summary, predict, predict_image
from egeunet.benchmarks.sharding import Shard
from egeunet.model import ModelContract
from egeunet.model.errors import InputError, OutputError

CONTRACT = ModelContract(32, 32)
MODEL = {"file": "m.onnx", "sha256": "a" * 64}


@dataclass
class Darkness:
    """A runner that says 1 - red / 255, and counts the images it is given."""

    contract: ModelContract = CONTRACT
    name: str = "dark"
    precision_note: str = "none"
    calls: list[int] = field(default_factory=list)
    fail_at: int | None = None

    def __call__(self, image_nhwc: np.ndarray) -> np.ndarray:
        if self.fail_at is not None and len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(len(image_nhwc))
        return 1 - image_nhwc[..., :1].astype(np.float32) / np.float32(255)


def draw(
    path: Path, size: tuple[int, int] = (50, 40), box: tuple[int, ...] = (10, 8, 30, 28)
) -> Path:
    """A dark rectangle on a light ground; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (230, 190, 170))
    image.paste((40, 20, 10), box)
    image.save(path)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(source: Path, out: Path, runner: Darkness | None = None, **options: Any) -> Summary:
    options.setdefault("model", MODEL)
    return predict(runner or Darkness(), find_pictures(source, out), out, **options)


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_outputs_have_the_original_size_and_describe_the_mask(tmp_path: Path) -> None:
    source = draw(tmp_path / "in" / "a.png", (200, 120), (50, 30, 110, 90))
    assert run(source, tmp_path / "out") == Summary(1, 0, 0)
    mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png"))
    assert (mask.shape, mask.dtype, set(np.unique(mask))) == ((120, 200), np.uint8, {0, 255})
    assert Image.open(tmp_path / "out" / "a_overlay.png").size == (200, 120)
    (record,) = lines(tmp_path / "out" / "results.jsonl")
    inside = mask == 255
    assert record["lesion_area_fraction"] == pytest.approx(inside.mean())
    ys, xs = np.nonzero(inside)
    assert record["bounding_box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    # The true box is 50, 30, 110, 90; squashing to 32 pixels blurs it by some pixels.
    assert np.abs(np.subtract(record["bounding_box"], [50, 30, 110, 90])).max() <= 4
    assert record["mean_probability_lesion"] > 0.6 > record["mean_probability"] > 0.1
    assert (record["width"], record["height"]) == (200, 120)
    assert (record["file"], record["mask"]) == ("a.png", "a_mask.png")
    assert (record["model_sha256"], record["threshold"]) == ("a" * 64, 0.5)


def test_image_without_lesion_has_null_for_what_does_not_exist(tmp_path: Path) -> None:
    Image.new("RGB", (30, 30), "white").save(tmp_path / "w.png")
    run(tmp_path / "w.png", tmp_path / "out")
    (record,) = lines(tmp_path / "out" / "results.jsonl")
    assert record["lesion_area_fraction"] == 0.0
    assert record["bounding_box"] is None
    assert record["mean_probability_lesion"] is None


def test_probability_is_resized_before_the_threshold() -> None:
    """A diagonal edge enlarged eightfold is smooth; an enlarged mask would have steps of 8."""
    small = np.where(np.add.outer(np.arange(32), np.arange(32)) < 32, 0, 255).astype(np.uint8)
    image = np.repeat(np.repeat(small, 8, axis=0), 8, axis=1)[..., None].repeat(3, axis=2)
    mask = predict_image(Darkness(), image).mask
    assert mask.shape == (256, 256)
    ends = mask.argmin(axis=1)[40:200]  # first skin pixel of each row
    assert np.abs(np.diff(ends)).max() < 8


def test_threshold_overrides_the_contract_s() -> None:
    image = np.full((32, 32, 3), 100, dtype=np.uint8)  # probability 0.61
    assert predict_image(Darkness(), image).mask.all()
    assert not predict_image(Darkness(), image, threshold=0.7).mask.any()


def test_folders_collisions_and_what_is_left_out(tmp_path: Path) -> None:
    data = tmp_path / "in"
    for name in ("a.jpg", "a.png", "b.jpg", "s/b.jpg", ".hidden.png", ".git/x.png"):
        draw(data / name)
    draw(data / "ISIC_1_superpixels.png")
    draw(data / "out" / "old_mask.png")
    (data / "notes.txt").write_text("no image")
    assert run(data, data / "out").images == 4
    assert [r["file"] for r in lines(data / "out" / "results.jsonl")] == [
        "a.jpg",
        "a.png",
        "b.jpg",
        "s/b.jpg",
    ]
    written = files_of(data / "out")
    for name in ("a.jpg", "a.png", "b", "s/b"):
        assert f"{name}_mask.png" in written
        assert f"{name}_overlay.png" in written


def test_shards_share_a_folder(tmp_path: Path) -> None:
    for index in range(5):
        draw(tmp_path / "in" / f"{index}.png")
    for index in (1, 2):
        run(tmp_path / "in", tmp_path / "out", shard=Shard(index, 2))
    logs = [lines(tmp_path / "out" / f"results-{i}-of-2.jsonl") for i in (1, 2)]
    assert [[r["file"] for r in log] for log in logs] == [
        ["0.png", "2.png", "4.png"],
        ["1.png", "3.png"],
    ]


def test_rerun_skips_what_is_finished_and_only_that(tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    for index in range(4):
        draw(data / f"{index}.png")
    assert run(data, out) == Summary(4, 0, 0)
    stamp = (out / "0_mask.png").stat().st_mtime_ns
    runner = Darkness()
    assert run(data, out, runner) == Summary(0, 4, 0)
    assert runner.calls == []
    assert (out / "0_mask.png").stat().st_mtime_ns == stamp

    (out / "1_overlay.png").unlink()  # a picture is gone
    draw(data / "2.png", (60, 60))  # another image under the old name
    assert run(data, out) == Summary(2, 2, 0)
    records = {r["file"]: r for r in lines(out / "results.jsonl")}
    assert len(lines(out / "results.jsonl")) == 4
    assert records["2.png"]["width"] == 60

    assert run(data, out, threshold=0.6) == Summary(4, 0, 0)
    assert run(data, out, threshold=0.6, model={**MODEL, "sha256": "b" * 64}) == Summary(4, 0, 0)
    other = {"threshold": 0.6, "model": {**MODEL, "sha256": "b" * 64}}
    assert run(data, out, **other) == Summary(0, 4, 0)
    assert run(data, out, overwrite=True, **other) == Summary(4, 0, 0)
    assert len(lines(out / "results.jsonl")) == 4


def test_rerun_after_an_end_at_any_byte_of_the_log(tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    for index in range(3):
        draw(data / f"{index}.png")
    run(data, out)
    log = out / "results.jsonl"
    whole = log.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
        log.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert run(data, out) == Summary(3 - complete, complete, 0)
        assert sorted(r["file"] for r in lines(log)) == ["0.png", "1.png", "2.png"]


def test_interrupt_leaves_whole_pictures_only(tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    for index in range(3):
        draw(data / f"{index}.png")
    with pytest.raises(KeyboardInterrupt):
        run(data, out, Darkness(fail_at=2))
    assert [r["file"] for r in lines(out / "results.jsonl")] == ["0.png", "1.png"]
    assert not list(out.rglob("*.partial"))
    assert run(data, out) == Summary(1, 2, 0)


def test_leftovers_of_a_killed_run_go_and_those_of_others_stay(tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    draw(data / "a.png")
    draw(data / "s" / "b.png")
    for name in (".a_mask.png.x1_y2z3a.partial", "s/.b_overlay.png.abcdefgh.partial"):
        (out / name).mkdir(parents=True)
        (out / name / "half.png").write_bytes(b"half")
    (out / ".other_mask.png.abcdefgh.partial").mkdir()
    run(data, out)
    assert [p.name for p in out.rglob("*.partial")] == [".other_mask.png.abcdefgh.partial"]


def test_results_of_other_images_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(draw(tmp_path / "x" / "a.png"), out)
    run(draw(tmp_path / "y" / "b.png"), out)
    assert [r["file"] for r in lines(out / "results.jsonl")] == ["a.png", "b.png"]
    # The same name from elsewhere overwrites the pictures, so its line goes too.
    assert run(draw(tmp_path / "z" / "a.png", (70, 70)), out) == Summary(1, 0, 0)
    records = {r["file"]: r["width"] for r in lines(out / "results.jsonl")}
    assert records == {"a.png": 70, "b.png": 50}
    assert len(lines(out / "results.jsonl")) == 2


def test_foreign_results_file_is_refused_and_untouched(tmp_path: Path) -> None:
    source, out = draw(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "results.jsonl").write_text("my diary\n")
    with pytest.raises(InputError, match="line 1: not a result of egeunet-predict"):
        run(source, out)
    assert files_of(out) == ["results.jsonl"]
    assert (out / "results.jsonl").read_text() == "my diary\n"


def test_bad_images_among_good_ones(tmp_path: Path) -> None:
    data = tmp_path / "in"
    draw(data / "a.jpg")
    draw(data / "b.png")
    whole = draw(data / "c.jpg").read_bytes()
    (data / "c.jpg").write_bytes(whole[: len(whole) // 2])
    (data / "d.png").write_text("text")
    (data / "e.png").write_bytes(b"")
    heard: list[str] = []
    assert run(data, tmp_path / "out", complain=heard.append) == Summary(2, 0, 3)
    assert [Path(line.split(":")[0]).name for line in heard] == ["c.jpg", "d.png", "e.png"]
    assert [r["file"] for r in lines(tmp_path / "out" / "results.jsonl")] == ["a.jpg", "b.png"]


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"l\xe9sion \xff.png")
    try:
        draw(tmp_path / "in" / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert run(tmp_path / "in", tmp_path / "out") == Summary(1, 0, 0)
    assert run(tmp_path / "in", tmp_path / "out") == Summary(0, 1, 0)


def test_places_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    source = draw(tmp_path / "in" / "a.png")
    with pytest.raises(InputError, match="not found"):
        find_pictures(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no images"):
        find_pictures(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match="choose another output folder"):
        find_pictures(source.parent, source.parent)
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(OutputError, match="is a file, not a folder"):
            run(source, out)
    with pytest.raises(InputError, match="threshold"):
        run(source, tmp_path / "out", threshold=0.0)
    assert not (tmp_path / "out").exists()
