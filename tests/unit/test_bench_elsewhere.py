"""Rows of emulated cores and phones, with stand-ins for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.benchmarks import elsewhere as module
from egeunet.benchmarks.elsewhere import MOST_IMAGES, Elsewhere
from egeunet.benchmarks.labelled_images import synthetic_images
from egeunet.benchmarks.rows import failed_gates
from egeunet.export.runners import open_runner

SIDE = 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network."""
    return tiny.random_weights(tmp_path_factory.mktemp("w") / "w.safetensors", size=SIDE)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float file; what it holds does not matter here."""
    path = tmp_path_factory.mktemp("f") / "model.tflite"
    path.write_bytes(tiny.tflite_bytes(size=SIDE))
    return path


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elsewhere, "problem", lambda self, name: None)


def emulated(answer: Any, seen: list[Any]) -> Any:
    """A stand-in for the emulator; ``answer`` makes probabilities of pixels."""

    def part(path: Path, pixels: Any, *, cpu: str, root: Any, runtime: str) -> dict[str, Any]:
        seen.append((path.name, pixels.shape, cpu, runtime))
        return {
            "runtime": runtime,
            "threads": 1,
            "note": "emulated, instructions not time",
            "instructions": {"cpu": cpu, "total": 42, "shares": {}, "kernels": [], "operators": []},
            "probability": answer(pixels),
        }

    return part


def test_an_emulated_row_has_counts_accuracy_and_gates(
    weights: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    reference = open_runner(weights)
    monkeypatch.setattr(module, "arm64_row_part", emulated(reference, seen))
    where = Elsewhere(("litert-arm64", "onnxruntime-arm64"), cpu="cortex-a72")
    rows, skipped = where.rows([file], weights, synthetic_images(MOST_IMAGES + 5))
    assert seen == [("model.tflite", (MOST_IMAGES, SIDE, SIDE, 3), "cortex-a72", "litert-arm64")]
    (row,) = rows
    assert skipped == [] and row["id"] == "model.tflite|litert-arm64|1"
    assert row["instructions"]["total"] == 42 and row["latency"] is None
    assert row["accuracy"]["max_abs_diff"] == 0.0 and row["gates"]
    assert f"accuracy on {MOST_IMAGES} images" in row["note"] and "emulated" in row["note"]
    assert failed_gates(rows) == []


def test_wrong_and_broken_masks_fail_their_gates(
    weights: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = open_runner(weights)
    wrong = emulated(lambda pixels: 1 - reference(pixels), [])
    monkeypatch.setattr(module, "arm64_row_part", wrong)
    rows, _ = Elsewhere(("litert-arm64",)).rows([file], weights, synthetic_images(2))
    assert {entry["name"] for entry in failed_gates(rows)} >= {"mask_agreement", "mean_abs_diff"}
    broken = emulated(lambda pixels: np.full((*pixels.shape[:3], 1), np.nan, np.float32), [])
    monkeypatch.setattr(module, "arm64_row_part", broken)
    rows, _ = Elsewhere(("litert-arm64",)).rows([file], weights, synthetic_images(2))
    assert rows[0]["accuracy"]["non_finite"] == 2


def test_rows_of_a_phone_get_their_accuracy_from_its_probabilities(
    weights: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = open_runner(weights)

    def phone(files: Any, images: Any, options: Any, step: Any, skipped: Any) -> list[Any]:
        skipped.append({"runtime": "android-gpu", "file": files[0].name, "reason": "no GPU"})
        base = {"id": "x", "precision": "float32", "note": None, "accuracy": None, "gates": []}
        return [
            base | {"probabilities": reference(images[1])[:2]},
            base | {"probabilities": None, "id": "y"},
        ]

    monkeypatch.setattr(module, "android_rows", phone)
    rows, skipped = Elsewhere(("android",)).rows([file], weights, synthetic_images(3))
    assert [skip.reason for skip in skipped] == ["no GPU"]
    assert rows[0]["accuracy"]["mask_iou"] == 1.0 and rows[0]["note"] == "accuracy on 2 images"
    assert rows[1]["accuracy"] is None and rows[1]["gates"] == []
    assert all("probabilities" not in row for row in rows)


def test_nothing_named_is_nothing_done(weights: Path, file: Path) -> None:
    assert Elsewhere().rows([file], weights, synthetic_images(1)) == ([], [])
