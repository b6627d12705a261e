"""Images into stored values and back, around an emulator that a formula stands in for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.benchmarks.arm64 import probability
from egeunet.benchmarks.arm64.cpus import cpu_named
from egeunet.export.runners.runner import CONTRACT_KEY
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

_CPU = cpu_named("cortex-a76")
_CONTRACT = ModelContract(32, 32)
_IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def _sigmoid(real_nhwc: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(real_nhwc @ tiny.WEIGHTS + tiny.BIAS)))[..., None]


def _onnx_guest(batch: int, **metadata: str) -> dict[str, Any]:
    port = {"shape": [batch, 3, 32, 32], "dtype": "float32"}
    return {"inputs": [port], "outputs": None, "metadata": metadata}


def _tflite_guest(shape: list[int]) -> dict[str, Any]:
    port = {"dtype": "uint8", "scales": [1 / 255], "zero_points": [0]}
    outputs = [{**port, "shape": [*shape[:3], 1]}]
    return {"inputs": [{**port, "shape": shape}], "outputs": outputs, "metadata": None}


@pytest.mark.parametrize(("batch", "runs"), [(1, 3), (2, 2), (4, 1)])
def test_onnx_batches_are_filled_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch: int, runs: int
) -> None:
    def emulator(model: Path, root: Path, cpu: Any, batches: np.ndarray) -> np.ndarray:
        assert batches.shape == (runs, batch, 3, 32, 32) and batches.dtype == np.float32
        nhwc = _sigmoid(batches.transpose(0, 1, 3, 4, 2))  # (K, N, H, W, 1)
        return np.moveaxis(nhwc, -1, 2).astype(np.float32)

    monkeypatch.setattr(probability, "run_batches", emulator)
    guest = _onnx_guest(batch, **{CONTRACT_KEY: json.dumps(_CONTRACT.to_dict())})
    path = tmp_path / "m.onnx"
    got = probability.emulated_probability(path, _IMAGES, guest, tmp_path, _CPU)
    np.testing.assert_allclose(got, tiny.expected(_IMAGES, _CONTRACT), atol=1e-6)


def test_tflite_values_are_quantized_as_the_file_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def emulator(model: Path, root: Path, cpu: Any, batches: np.ndarray) -> np.ndarray:
        assert batches.shape == (3, 1, 32, 32, 3)
        np.testing.assert_array_equal(batches[:, 0], _IMAGES)  # pixels come through as they are
        return np.rint(_sigmoid(batches / np.float32(255)) * 255).astype(np.uint8)

    monkeypatch.setattr(probability, "run_batches", emulator)
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny.tflite_bytes(io="uint8"))
    guest = _tflite_guest([1, 32, 32, 3])
    got = probability.emulated_probability(path, _IMAGES, guest, tmp_path, _CPU)
    np.testing.assert_allclose(got, tiny.expected(_IMAGES, _CONTRACT), atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("guest", "images", "message"),
    [
        (_tflite_guest([1, 64, 64, 3]), _IMAGES, r"takes uint8 pixels \(N, 64, 64, 3\)"),
        (_tflite_guest([1, 32]), _IMAGES, r"input has shape \[1, 32\], expected four sides"),
        (_tflite_guest([1, 32, 32, 3]), _IMAGES[:0], "no images given"),
        ({"inputs": [1, 2]}, _IMAGES, "expected one input, got 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_emulator(
    tmp_path: Path, guest: dict[str, Any], images: np.ndarray, message: str
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny.tflite_bytes(io="uint8"))
    with pytest.raises(InputError, match=message):
        probability.emulated_probability(path, images, guest, tmp_path, _CPU)


def test_probabilities_out_of_range_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shape = (3, 1, 1, 32, 32)
    monkeypatch.setattr(probability, "run_batches", lambda *_: np.full(shape, 7, np.float32))
    with pytest.raises(InputError, match="values from 0 to 7"):
        path, guest = tmp_path / "m.onnx", _onnx_guest(1)
        probability.emulated_probability(path, _IMAGES, guest, tmp_path, _CPU)
