"""ONNX and .ort files with ONNX Runtime on the CPU: input and output NCHW float32, one each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.export.onnx.runtime import onnxruntime
from egeunet.export.request import LARGEST_BATCH
from egeunet.export.runners.runner import (
    CONTRACT_KEY,
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    contract_for,
    first_line,
    fixed_side,
    register,
)
from egeunet.model.errors import InputError

_FATAL_ONLY = 4


@register(".onnx", ".ort")
class OnnxRunner:
    """Runs a file of ONNX Runtime; see :class:`Runner`.

    A fixed batch of N is looped over; the last one is filled up with copies of its last
    image. What :meth:`bind` gives runs N copies of the one image.
    """

    name = "onnxruntime"
    precision_note = "input float32 NCHW, output float32 NCHW"

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._session = _session(path, threads)
        try:
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            metadata = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: damaged ONNX file, a name is not text ({error})") from error
        for side, ports in (("input", inputs), ("output", outputs)):
            if len(ports) != 1:
                raise InputError(f"{path}: expected one {side}, got {len(ports)}: {_names(ports)}")
            if ports[0].type != "tensor(float)":
                raise InputError(
                    f"{path}: {side} {ports[0].name!r} is {ports[0].type}, expected tensor(float)"
                )
        shape = inputs[0].shape
        # Filling up a batch of any number that a damaged file says would take any memory.
        if len(shape) != 4 or shape[1] != 3 or (fixed_side(shape[0]) or 1) > LARGEST_BATCH:
            raise InputError(
                f"{path}: input {inputs[0].name!r} has shape {shape}, "
                f"expected (N, 3, H, W), N up to {LARGEST_BATCH}: three channels first"
            )
        height, width = fixed_side(shape[2]), fixed_side(shape[3])
        self.contract = contract_for(path, metadata.get(CONTRACT_KEY), height, width)
        self._input = inputs[0].name
        self._batch = fixed_side(shape[0])

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        image = self._prepared(image_nhwc)
        filled = np.repeat(image, self._batch or 1, axis=0)
        return lambda: self._run(filled)

    def _prepared(self, image_nhwc: Pixels) -> Any:
        real = self.contract.normalize(checked_pixels(image_nhwc, self.contract))
        return np.ascontiguousarray(real.transpose(0, 3, 1, 2))  # (N, 3, H, W)

    def __call__(self, image_nhwc: Pixels) -> Probability:
        image = self._prepared(image_nhwc)
        step = self._batch or max(len(image), 1)
        missing = -len(image) % step
        filled = np.concatenate([image, np.repeat(image[-1:], missing, axis=0)])
        parts = [self._run(filled[i : i + step])[: len(image) - i]
                 for i in range(0, len(image), step)]  # fmt: skip
        output = np.concatenate(parts) if parts else np.zeros((0, 1, *image.shape[2:]), np.float32)
        if output.ndim != 4:
            raise InputError(
                f"{self._path}: output has shape {output.shape}, expected (N, 1, H, W)"
            )
        return checked_probability(self._path, output.transpose(0, 2, 3, 1), image_nhwc)

    def _run(self, image: Any) -> Any:
        try:
            return self._session.run(None, {self._input: image})[0]
        except Exception as error:
            message = first_line(error)
            raise InputError(f"{self._path}: ONNX Runtime cannot run it ({message})") from error


def _session(path: Path, threads: int) -> Any:
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY  # what matters comes as an exception
    try:
        return ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:
        message = first_line(error)
        raise InputError(f"{path}: not an ONNX file that can be loaded ({message})") from error


def _names(ports: Any) -> str:
    return ", ".join(port.name for port in ports) or "none"
