"""ONNX and .ort files with ONNX Runtime on the CPU: one input and one output, NCHW, float32 or
integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.export.onnx.runtime import onnxruntime
from egeunet.export.request import LARGEST_BATCH
from egeunet.export.runners.onnx_ports import onnx_port
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
        self._source, self._sink = (
            onnx_port(path, side, port.name, port.type, metadata)
            for side, port in (("input", inputs[0]), ("output", outputs[0]))
        )
        self.precision_note = f"input {self._source.dtype} NCHW, output {self._sink.dtype} NCHW"
        self._batch = fixed_side(shape[0])

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        image = self._prepared(image_nhwc)
        filled = np.repeat(image, self._batch or 1, axis=0)
        return lambda: self._run(filled)

    def _prepared(self, image_nhwc: Pixels) -> Any:
        real = self.contract.normalize(checked_pixels(image_nhwc, self.contract))
        stored = self._source.quantize(real)
        return np.ascontiguousarray(stored.transpose(0, 3, 1, 2))  # (N, 3, H, W)

    def __call__(self, image_nhwc: Pixels) -> Probability:
        image = self._prepared(image_nhwc)
        step = self._batch or max(len(image), 1)
        missing = -len(image) % step
        filled = np.concatenate([image, np.repeat(image[-1:], missing, axis=0)])
        parts = [self._run(filled[i : i + step])[: len(image) - i]
                 for i in range(0, len(image), step)]  # fmt: skip
        output = np.concatenate(parts) if parts else np.zeros((0, 1, *image.shape[2:]))
        if output.ndim != 4:
            raise InputError(
                f"{self._path}: output has shape {output.shape}, expected (N, 1, H, W)"
            )
        probability = self._sink.dequantize(output.transpose(0, 2, 3, 1))
        return checked_probability(self._path, probability, image_nhwc)

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
