"""egeunet-predict as a user runs it, also when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_models as tiny
from egeunet.model import ModelContract

Run = Callable[..., "subprocess.CompletedProcess[str]"]
NAME = "egeunet-predict"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "tiny.onnx"
    path.parent.mkdir()
    path.write_bytes(tiny.onnx_bytes(ModelContract(32, 32).to_dict()))
    return path


def draw(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (230, 190, 170))
    image.paste((30, 20, 10), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    image.save(path)
    return path


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_folder_rerun_and_overwrite(run_command: Run, model: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.jpg", "a.png", "s/a.jpg"):
        draw(data / name, (100, 80))
    command = (NAME, data, "--model", model, "--out", out)
    done = run_command(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 images: 3 predicted, 0 done before" in done.stdout
    found = records(out / "results.jsonl")
    assert [r["file"] for r in found] == ["a.jpg", "a.png", "s/a.jpg"]
    for record in found:
        mask = np.asarray(Image.open(out / str(record["mask"])))
        assert mask.shape == (80, 100)
        assert record["lesion_area_fraction"] == pytest.approx((mask == 255).mean())
        assert 0.02 < (mask == 255).mean() < 0.12  # the rectangle covers 1/16
        assert Image.open(out / str(record["overlay"])).size == (100, 80)
        assert record["model"] == "tiny.onnx"
    assert "0 predicted, 3 done before" in run_command(*command).stdout
    assert "3 predicted, 0 done before" in run_command(*command, "--overwrite").stdout
    assert "3 predicted" in run_command(*command, "--threshold", 0.6).stdout


def test_one_image_with_network_weights(run_command: Run, tmp_path: Path) -> None:
    weights = tiny.random_weights(tmp_path / "w.safetensors", size=64)
    image = draw(tmp_path / "lesion.jpg", (70, 90))
    done = run_command(NAME, image, "--model", weights, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "lesion_mask.png").size == (70, 90)


def test_shards_cover_the_folder(run_command: Run, model: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    for index in range(5):
        draw(data / f"{index}.png")
    for shard in ("1/2", "2/2"):
        done = run_command(NAME, data, "--model", model, "--out", out, "--shard", shard)
        assert done.returncode == 0, done.stderr
    found = [r["file"] for i in (1, 2) for r in records(out / f"results-{i}-of-2.jsonl")]
    assert sorted(map(str, found)) == [f"{i}.png" for i in range(5)]
    assert len(list(out.glob("*_mask.png"))) == 5


def test_bad_images_do_not_stop_the_rest(run_command: Run, model: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    draw(data / "a.jpg")
    bad = draw(data / "b.jpg")
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    (data / "c.png").write_text("text")
    draw(data / "d.jpg")
    done = run_command(NAME, data, "--model", model, "--out", out)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 3, done.stderr
    assert "b.jpg" in lines[0] and "c.png" in lines[1]
    assert lines[2] == f"{NAME}: error: 2 of 4 images could not be read; see above"
    assert [r["file"] for r in records(out / "results.jsonl")] == ["a.jpg", "d.jpg"]
    assert not list(out.glob("b_*")) and not list(out.glob("c_*"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["absent.jpg", "--out", "OUT"], "image or folder not found"),
        (["IMAGE", "--out", "FILE"], "is a file, not a folder"),
        (["IMAGE", "--out", "FILE/under"], "is a file, not a folder"),
        (["IMAGE", "--out", "/proc/none/out"], "cannot write"),
        (["IMAGES", "--out", "IMAGES"], "choose another output folder"),
        (["IMAGE", "--out", "OUT", "--shard", "3/2"], "shard 3/2 does not exist"),
        (["IMAGE", "--out", "OUT", "--shard", "half"], "shard must be I/N"),
        (["IMAGE", "--out", "OUT", "--threshold", "0"], "threshold"),
        (["IMAGE", "--out", "OUT", "--threshold", "nan"], "threshold"),
        (["IMAGE", "--out", "OUT", "--threads", "-1"], "threads must be a positive integer"),
        (["IMAGE", "--out", "OUT", "--model", "absent.tflite"], "model not found"),
        (["IMAGE", "--out", "OUT", "--model", "FILE"], "no runner for '.txt'"),
        (["IMAGE", "--out", "OUT", "--model", "NAN"], "the model gives NaN"),
        (["IMAGE"], "the following arguments are required: --out"),
    ],
)
def test_bad_arguments(
    run_command: Run, model: Path, tmp_path: Path, flags: list[str], words: str
) -> None:
    image = draw(tmp_path / "images" / "a.png")
    (tmp_path / "file.txt").write_text("x")
    nan = tmp_path / "nan.onnx"
    nan.write_bytes(tiny.onnx_bytes(ModelContract(32, 32).to_dict(), bias=float("nan")))
    named = {"IMAGE": image, "IMAGES": image.parent, "OUT": tmp_path / "out", "NAN": nan}
    arguments = [str(named.get(f, f.replace("FILE", str(tmp_path / "file.txt")))) for f in flags]
    if "--model" not in flags:
        arguments += ["--model", str(model)]
    done = run_command(NAME, *arguments)
    assert done.returncode == 2, done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{NAME}: error: ") and words in lines[0]
    assert not list(tmp_path.rglob("*_mask.png")) and not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_read_only_folder(run_command: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    done = run_command(NAME, draw(tmp_path / "a.png"), "--model", model, "--out", out)
    assert done.returncode == 2
    assert "choose a folder you may write to" in done.stderr


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_and_run_again(
    run_command: Run, model: Path, tmp_path: Path, end: signal.Signals
) -> None:
    data, out = tmp_path / "in", tmp_path / "out"
    names = [f"{index:02}.png" for index in range(30)]
    for name in names:
        draw(data / name, (900, 700))
    command = [data, "--model", model, "--out", out]
    program = Path(sys.executable).parent / NAME
    process = subprocess.Popen(
        [str(program), *map(str, command)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    log = out / "results.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(end)
    _, errors = process.communicate(timeout=60)
    if end == signal.SIGINT:
        assert process.returncode == 2
        assert errors.strip() == f"{NAME}: interrupted; nothing half-written is left"
        assert not list(out.glob("*.partial"))
    else:
        assert process.returncode == -signal.SIGKILL
    for picture in out.glob("*.png"):  # whatever is there is whole
        assert np.asarray(Image.open(picture)).shape[:2] == (700, 900)
    before = log.read_bytes().count(b"\n")
    assert 3 <= before < len(names)

    done = run_command(NAME, *command)
    assert done.returncode == 0, done.stderr
    assert f"{len(names) - before} predicted, {before} done before" in done.stdout
    assert sorted(str(r["file"]) for r in records(log)) == names
    assert len(list(out.glob("*.png"))) == 2 * len(names)
    assert not list(out.glob("*.partial"))


def test_output_into_a_closed_pipe_is_no_error(model: Path, tmp_path: Path) -> None:
    image = draw(tmp_path / "a.png")
    program = Path(sys.executable).parent / NAME
    line = f"{program} {image} --model {model} --out {tmp_path / 'out'} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "a_mask.png").exists()
