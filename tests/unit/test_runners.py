"""Runners: the same answer from every format, and one clear error from every bad file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models as tiny
from egeunet.export.runners import open_runner
from egeunet.export.runners.tensor_port import TensorPort
from egeunet.export.runners.tflite_metadata import contract_text
from egeunet.model import ModelContract
from egeunet.model.errors import InputError

CONTRACT = ModelContract(32, 32)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
INT8 = {"input_quantization": (1 / 255, -128), "output_quantization": (1 / 255, -128)}
#: A quantized answer is off by at most half a step.
HALF_STEP = 0.5 / 255 + 1e-6


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("normalization", ["unit", "minmax255"])
@pytest.mark.parametrize(
    ("suffix", "make", "options", "tolerance"),
    [
        (".onnx", tiny.onnx_bytes, {"batch": 1}, 1e-6),
        (".onnx", tiny.onnx_bytes, {"batch": "N"}, 1e-6),
        (".tflite", tiny.tflite_bytes, {"io": "float32"}, 1e-6),
        (".tflite", tiny.tflite_bytes, {"io": "uint8"}, HALF_STEP),
        (".tflite", tiny.tflite_bytes, {"io": "int8"}, HALF_STEP),
    ],
)
def test_every_format_gives_the_known_answer(
    tmp_path: Path,
    suffix: str,
    make: Any,
    options: dict[str, Any],
    tolerance: float,
    normalization: str,
) -> None:
    contract = ModelContract(32, 32, normalization=normalization)
    bias = 3.0
    if normalization == "minmax255":
        bias = 800.0  # logits over a range of 1785 need another middle
        if options.get("io") in ("uint8", "int8"):
            zero = 0 if options["io"] == "uint8" else -128
            options = {
                **options,
                "input_quantization": (1.0, zero),
                "output_quantization": (1 / 255, zero),
            }
    elif options.get("io") == "int8":
        options = {**options, **INT8}
    runner = open_runner(
        write(tmp_path / f"m{suffix}", make(contract.to_dict(), bias=bias, **options))
    )
    assert runner.contract == contract
    assert runner.name in ("onnxruntime", "litert-xnnpack")
    got = runner(PIXELS)
    real = contract.normalize(PIXELS)
    if normalization == "minmax255" and options.get("io") in ("uint8", "int8"):
        real = np.rint(real)  # what its scale of 1 can hold
    logit = np.clip(real.astype(np.float64) @ tiny.WEIGHTS + bias, -80, 80)
    want = 1 / (1 + np.exp(-logit))[..., None]
    assert got.dtype == np.float32
    assert got.shape == (3, 32, 32, 1)
    assert np.ptp(want) > 0.5  # the pictures exercise the range
    assert np.abs(got - want).max() <= tolerance
    assert runner(PIXELS[:0]).shape == (0, 32, 32, 1)
    np.testing.assert_array_equal(runner(PIXELS[1:2]), got[1:2])


def test_torch_runner_is_the_network(tmp_path: Path) -> None:
    import torch

    from egeunet.model import load_weights

    path = tiny.random_weights(tmp_path / "w.safetensors", size=64)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    model, contract = load_weights(path)
    before = torch.get_num_threads()
    runner = open_runner(path, threads=1)
    got = runner(pixels)
    assert torch.get_num_threads() == before
    # Random weights make steep logits: another memory layout alone gives 5e-5.
    image = torch.from_numpy(contract.normalize(pixels)).permute(0, 3, 1, 2).contiguous()
    torch.set_num_threads(1)  # and another number of threads 1e-5
    try:
        with torch.no_grad():
            want = model(image).probability.permute(0, 2, 3, 1).numpy()
    finally:
        torch.set_num_threads(before)
    assert np.abs(got - want).max() <= 1e-6
    assert (runner.name, runner.contract) == ("torch", ModelContract(64, 64))


def test_checkpoint_of_the_public_code_runs_by_its_own_contract(tmp_path: Path) -> None:
    import torch

    from egeunet.model import EGEUNet

    torch.manual_seed(0)
    torch.save({"model_state_dict": EGEUNet().state_dict()}, tmp_path / "best.pth")
    runner = open_runner(tmp_path / "best.pth")
    assert runner.contract == ModelContract(normalization="minmax255")
    assert runner(np.zeros((1, 256, 256, 3), dtype=np.uint8)).shape == (1, 256, 256, 1)


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(["uint8", "int8"]),
    scale=st.floats(1e-4, 2.0),
    zero=st.integers(0, 127),
    seed=st.integers(0, 2**32 - 1),
)
def test_quantization_is_to_the_nearest_step(
    dtype: str, scale: float, zero: int, seed: int
) -> None:
    port = TensorPort(0, (1, 8, 8, 3), dtype, scale, zero)
    limits = np.iinfo(dtype)
    real = np.random.default_rng(seed).uniform(-3, 300, (1, 8, 8, 3)).astype(np.float32)
    stored = port.quantize(real)
    assert stored.dtype == np.dtype(dtype)
    low, high = (limits.min - zero) * scale, (limits.max - zero) * scale
    error = np.abs(port.dequantize(stored) - np.clip(real, low, high))
    assert error.max() <= scale * 0.5 + 1e-4 * max(abs(low), abs(high))


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 0), ("int8", -128)])
def test_scale_of_one_255th_stores_the_pixel_itself(dtype: str, zero: int) -> None:
    pixels = np.arange(256, dtype=np.uint8)[None, :, None, None].repeat(3, axis=3)
    # The scale as a file holds it: the float32 nearest to 1/255.
    port = TensorPort(0, (1, 256, 1, 3), dtype, float(np.float32(1 / 255)), zero)
    stored = port.quantize(CONTRACT.normalize(pixels))
    np.testing.assert_array_equal(stored.astype(int) - zero, pixels.astype(int))


@pytest.mark.parametrize(("suffix", "make"), [(".onnx", "onnx_bytes"), (".tflite", "tflite_bytes")])
def test_file_without_contract_gets_the_default_at_its_size(
    tmp_path: Path, suffix: str, make: str
) -> None:
    runner = open_runner(write(tmp_path / f"m{suffix}", getattr(tiny, make)(None, size=64)))
    assert runner.contract == ModelContract(64, 64)


def test_onnx_with_symbolic_size_takes_the_contract_s(tmp_path: Path) -> None:
    data = tiny.onnx_bytes(CONTRACT.to_dict(), input_shape=["N", 3, "H", "W"])
    assert open_runner(write(tmp_path / "m.onnx", data))(PIXELS).shape == (3, 32, 32, 1)


def test_contract_is_found_in_the_bytes() -> None:
    data = tiny.tflite_bytes(CONTRACT.to_dict())
    assert json.loads(contract_text(Path("m"), data) or "") == CONTRACT.to_dict()
    assert contract_text(Path("m"), tiny.tflite_bytes(None)) is None


@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS.astype(np.float32),
        PIXELS[0],
        PIXELS[:, :16],
        PIXELS[..., :1],
    ],
)
def test_runner_takes_pixels_at_its_size_only(tmp_path: Path, pixels: np.ndarray) -> None:
    runner = open_runner(write(tmp_path / "m.onnx", tiny.onnx_bytes(CONTRACT.to_dict())))
    with pytest.raises(InputError, match="uint8 pixels"):
        runner(pixels)
