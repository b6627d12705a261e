"""Lesion probabilities of the real ARM kernels: images through the emulated machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.arm64.cpus import Cpu
from egeunet.benchmarks.arm64.emulator import run_batches
from egeunet.export.runners.onnx_ports import onnx_port
from egeunet.export.runners.runner import (
    CONTRACT_KEY,
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    contract_for,
)
from egeunet.export.runners.tensor_port import TensorPort
from egeunet.export.runners.tflite_metadata import contract_text
from egeunet.model.errors import InputError


def emulated_probability(
    model: Path, images_nhwc: Pixels, guest: dict[str, Any], root: Path, cpu: Cpu
) -> Probability:
    """Segment images on an emulated core, all in one start of the emulated machine.

    Scaling and quantization are done here, on the host, as the runners of
    :mod:`egeunet.export.runners` do them: what differs from theirs is the kernels' doing.

    Args:
        model: .tflite or .onnx file with one image as input and one probability as output.
        images_nhwc: uint8 (N, H, W, 3) pixels 0..255 at the contract's size.
        guest: ``guest`` of :func:`count_report` of the same file.
        root: made by :func:`arm64.installation.setup`.

    Returns:
        float32 (N, H, W, 1), 0..1.

    Raises:
        InputError: images or a model of another form; the emulated runtime fails.
        MissingExtraError: a .tflite file without the extra [tflite].
    """
    if len(guest["inputs"]) != 1:
        raise InputError(f"{model}: expected one input, got {len(guest['inputs'])}")
    shape = guest["inputs"][0]["shape"]
    if len(shape) != 4:
        raise InputError(f"{model}: input has shape {shape}, expected four sides")
    if len(images_nhwc) == 0:
        raise InputError("no images given to run on the emulated core")
    if model.suffix == ".tflite":
        output = _tflite(model, images_nhwc, guest, root, cpu)
    else:
        output = _onnx(model, images_nhwc, guest, root, cpu)
    return checked_probability(model, output, images_nhwc)


def _tflite(
    model: Path, images: Pixels, guest: dict[str, Any], root: Path, cpu: Cpu
) -> NDArray[np.float32]:
    text = contract_text(model, model.read_bytes())
    source, sink = _port(guest["inputs"][0]), _port(guest["outputs"][0])
    contract = contract_for(model, text, *source.shape[1:3])
    stored = source.quantize(contract.normalize(checked_pixels(images, contract)))
    outputs = run_batches(model, root, cpu, stored[:, None])  # (N, 1, H, W, 3)
    return sink.dequantize(outputs[:, 0])


def _onnx(
    model: Path, images: Pixels, guest: dict[str, Any], root: Path, cpu: Cpu
) -> NDArray[np.float32]:
    batch, _, height, width = guest["inputs"][0]["shape"]
    contract = contract_for(model, guest["metadata"].get(CONTRACT_KEY), height, width)
    source = onnx_port(model, "input", "", guest["inputs"][0]["dtype"], guest["metadata"])
    stored = source.quantize(contract.normalize(checked_pixels(images, contract)))
    real = stored.transpose(0, 3, 1, 2)
    missing = -len(real) % batch  # a fixed batch is filled up with copies of the last image
    filled = np.concatenate([real, np.repeat(real[-1:], missing, axis=0)])
    batches = filled.reshape(-1, batch, *filled.shape[1:])  # (K, batch, 3, H, W)
    outputs = run_batches(model, root, cpu, np.ascontiguousarray(batches))
    if outputs.ndim != 5:
        raise InputError(f"{model}: output has shape {outputs.shape[1:]}, expected (N, 1, H, W)")
    merged = outputs.reshape(-1, *outputs.shape[2:])[: len(images)]  # (N, 1, H, W)
    sink = onnx_port(model, "output", "", str(outputs.dtype), guest["metadata"])
    return sink.dequantize(merged.transpose(0, 2, 3, 1))


def _port(detail: dict[str, Any]) -> TensorPort:
    scales, zero_points = detail["scales"], detail["zero_points"]
    scale, zero_point = (scales[0], zero_points[0]) if len(scales) == 1 else (0.0, 0)
    return TensorPort(0, tuple(detail["shape"]), detail["dtype"], scale, zero_point)
