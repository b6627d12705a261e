"""egeunet-evaluate as a user runs it."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_models as tiny
from egeunet.model import ModelContract
from egeunet.model.metrics import Scores, scores

CONTRACT = ModelContract(32, 32)
Run = Callable[..., "subprocess.CompletedProcess[str]"]
NAME = "egeunet-evaluate"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good.onnx, good.tflite, int8.tflite and broken ones."""
    folder = tmp_path_factory.mktemp("models")
    contract = CONTRACT.to_dict()
    good = tiny.tflite_bytes(contract)
    port = (1 / 255, -128)
    files = {
        "good.onnx": tiny.onnx_bytes(contract),
        "good.tflite": good,
        "int8.tflite": tiny.tflite_bytes(
            contract, io="int8", input_quantization=port, output_quantization=port
        ),
        "large.onnx": tiny.onnx_bytes(ModelContract(64, 64).to_dict(), size=64),
        "nan.onnx": tiny.onnx_bytes(contract, bias=float("nan")),
        "nan.tflite": tiny.tflite_bytes(contract, bias=float("nan")),
        "half.tflite": good[: len(good) // 2],
        "crash.tflite": tiny.tflite_bytes(contract, crash=True),
        "noise.onnx": np.random.default_rng(0).bytes(2000),
        "empty.tflite": b"",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ of three and five dark rectangles on light ground, 48 x 40."""
    root = tmp_path_factory.mktemp("data") / "rectangles"
    for split, number in (("train", 3), ("test", 5)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for index in range(number):
            box = (8 + index, 8, 32, 28 + index)
            for folder, ground, lesion in (("images", 220, 30), ("masks", 0, 255)):
                picture = Image.new("RGB" if folder == "images" else "L", (48, 40), None)
                picture.paste((ground,) * len(picture.getbands()), (0, 0, 48, 40))
                picture.paste((lesion,) * len(picture.getbands()), box)
                picture.save(root / split / folder / f"{split}{index}.png")
    return root


def assert_one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Exit code 2, one line on standard error that holds ``words``, no traceback."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{NAME}: error: ")
    assert words in lines[0]


def test_report_on_the_test_split(
    run_command: Run, models: Path, data: Path, tmp_path: Path
) -> None:
    report, rows = tmp_path / "r" / "report.json", tmp_path / "rows.csv"
    model = models / "int8.tflite"
    done = run_command(
        NAME, model, "--data", data, "--json", report, "--per-image", rows,
        "--reference", models / "good.onnx",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "split test, 5 images" in done.stdout
    values = json.loads(report.read_text())
    assert {
        "images", "protocol", "iou", "dice", "mean_jaccard", "mean_dice", "thresholded_jaccard",
        "sensitivity", "specificity", "accuracy", "constant_masks", "schema_version", "model",
        "data", "split", "layout", "threshold", "environment", "seconds", "counts", "shard",
    } <= set(values)  # fmt: skip
    assert (values["images"], values["data"], values["split"]) == (5, "rectangles", "test")
    assert values["iou"] > 0.8
    assert values["constant_masks"] == 0
    assert values["model"]["file"] == "int8.tflite"
    assert values["model"]["bytes"] == model.stat().st_size
    assert values["model"]["runtime"] == "litert-xnnpack"
    assert values["model"]["contract"] == CONTRACT.to_dict()
    assert values["reference"]["max_abs_difference"] <= 0.5 / 255 + 1e-6
    assert values["reference"]["mask_agreement"] > 0.99
    assert values["reference"]["model"]["file"] == "good.onnx"
    table = np.array(
        [[int(row[k]) for k in ("tp", "fp", "fn", "tn")] for row in csv.DictReader(rows.open())]
    )
    again = scores(table, values["protocol"])
    assert again == Scores(**{name: values[name] for name in again.to_dict()})
    assert str(tmp_path) not in report.read_text()


def test_formats_agree(run_command: Run, models: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("good.onnx", "good.tflite"):
        path = tmp_path / f"{name}.json"
        done = run_command(NAME, models / name, "--data", data, "--split", "all", "--json", path)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(path.read_text()))
    assert found[0]["counts"] == found[1]["counts"]
    assert found[0]["images"] == 8


def test_shards_add_up(run_command: Run, models: Path, data: Path, tmp_path: Path) -> None:
    totals = []
    for shard in ("1/1", "1/2", "2/2"):
        path = tmp_path / f"{shard[0]}{shard[2]}.json"
        done = run_command(
            NAME, models / "good.onnx", "--data", data, "--shard", shard, "--json", path
        )
        assert done.returncode == 0, done.stderr
        totals.append(json.loads(path.read_text())["counts"])
    assert totals[0] == {key: totals[1][key] + totals[2][key] for key in totals[0]}


def test_split_csv(run_command: Run, models: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    ids = [f"train{i}" for i in range(3)] + [f"test{i}" for i in range(5)]
    rows = [f"{id},{'test' if id in ('train0', 'test4') else 'train'}" for id in ids]
    table.write_text("id,split\n" + "\n".join(rows) + "\n")
    rows_csv = tmp_path / "rows.csv"
    done = run_command(
        NAME, models / "good.onnx", "--data", data, "--split-csv", table, "--per-image", rows_csv
    )
    assert done.returncode == 0, done.stderr
    assert sorted(row["id"] for row in csv.DictReader(rows_csv.open())) == ["test4", "train0"]


def test_without_data_it_says_synthetic(run_command: Run, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    done = run_command(NAME, models / "good.onnx", "--limit", 4, "--json", path)
    assert done.returncode == 0, done.stderr
    assert "synthetic images: says nothing about real ones" in done.stdout
    values = json.loads(path.read_text())
    assert (values["data"], values["images"]) == ("synthetic", 4)


def test_trained_weights_run_too(run_command: Run, data: Path, tmp_path: Path) -> None:
    weights = tiny.random_weights(tmp_path / "w.safetensors", size=64)
    done = run_command(NAME, weights, "--data", data)
    assert done.returncode == 0, done.stderr
    assert "64x64" in done.stdout


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("absent.tflite", "model not found"),
        ("model.pb", "no runner for '.pb'; known: .mlpackage, .onnx"),
        ("m.mlpackage", "model not found"),
        ("nan.onnx", "the model gives NaN"),
        ("nan.tflite", "the model gives NaN"),
        ("half.tflite", "TFLite file"),
        ("crash.tflite", "LiteRT crashed on it"),
        ("noise.onnx", "not an ONNX file"),
        ("empty.tflite", "not a TFLite file: 0 bytes"),
    ],
)
def test_bad_models(
    run_command: Run, models: Path, data: Path, tmp_path: Path, model: str, words: str
) -> None:
    report = tmp_path / "r.json"
    assert_one_line(run_command(NAME, models / model, "--data", data, "--json", report), words)
    assert list(tmp_path.iterdir()) == []


def test_nan_weights(run_command: Run, data: Path, tmp_path: Path) -> None:
    import torch

    from egeunet.model import EGEUNet, save_weights

    model = EGEUNet()
    torch.nn.init.constant_(model.final.bias, float("nan"))
    save_weights(tmp_path / "w.safetensors", model, CONTRACT)
    assert_one_line(
        run_command(NAME, tmp_path / "w.safetensors", "--data", data), "NaN or infinite"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "absent"], "not found"),
        (["--data", "DATA", "--split", "nowhere"], "no split 'nowhere'"),
        (["--data", "DATA", "--limit", "0"], "limit must be at least 1"),
        (["--data", "DATA", "--threshold", "1.5"], "threshold"),
        (["--data", "DATA", "--threads", "0"], "threads must be a positive integer"),
        (["--data", "DATA", "--shard", "3/2"], "shard 3/2 does not exist"),
        (["--data", "DATA", "--shard", "9/9"], "is empty"),
        (["--split", "test"], "need --data"),
        (["--data", "DATA", "--reference", "LARGE"], "compare models of one input size"),
        (["--data", "DATA", "--json", "FILE/r.json"], "is a file, not a folder"),
        (["--data", "DATA", "--json", "DATA"], "is a folder"),
        (["--data", "DATA", "--json", "/proc/none/r.json"], "cannot write"),
        (["--unknown"], "unrecognized arguments"),
        (["--data", "DATA", "--limit", "many"], "invalid int value"),
    ],
)
def test_bad_flags(
    run_command: Run, models: Path, data: Path, flags: list[str], words: str
) -> None:
    named = {"DATA": str(data), "LARGE": str(models / "large.onnx")}
    flags = [named.get(f, f.replace("FILE", str(models / "good.onnx"))) for f in flags]
    assert_one_line(run_command(NAME, models / "good.onnx", *flags), words)


def test_truncated_image_ends_it_by_name(run_command: Run, models: Path, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "d" / folder).mkdir(parents=True)
    for id in ("a", "b"):
        Image.new("RGB", (40, 40), "red").save(tmp_path / "d" / "images" / f"{id}.jpg")
        Image.new("L", (40, 40), 255).save(tmp_path / "d" / "masks" / f"{id}.png")
    bad = tmp_path / "d" / "images" / "b.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    report = tmp_path / "r.json"
    done = run_command(NAME, models / "good.onnx", "--data", tmp_path / "d", "--json", report)
    assert_one_line(done, "b.jpg")
    assert not report.exists()
