"""TFLite files with LiteRT and its XNNPACK delegate on the CPU.

LiteRT checks that a file is a well-formed flatbuffer, not that its numbers make
sense: about one flipped byte in 150 ends the process by a segmentation fault or
sends it into an endless run. So a file first runs once in a process of its own
(:mod:`egeunet.export.runners.trial`), which is the only check that always holds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.export.runners.runner import (
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    contract_for,
    first_line,
    register,
)
from egeunet.export.runners.tensor_port import TensorPort
from egeunet.export.runners.tflite_metadata import contract_text
from egeunet.model.errors import EgeunetError, InputError, needs_extra

#: Seconds that the one image of the trial may take.
TRIAL_SECONDS = 60


@register(".tflite")
class LiteRTRunner:
    """Runs a TFLite file; see :class:`Runner`. Its batch of 1 is looped over.

    Attributes:
        input_port, output_port: the file's two tensors.
    """

    name = "litert-xnnpack"
    #: What is said of a file that it cannot open.
    _refusal = "not a TFLite file that can be run"

    def __init__(self, path: Path, threads: int, trial: bool = True) -> None:
        with needs_extra("tflite"):
            import ai_edge_litert.interpreter  # noqa: F401 - its absence must show first
        self._path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        text = contract_text(path, data)
        if trial:
            _try_in_another_process(path)
        try:
            with _quiet():
                self._interpreter = self._opened(data, threads)
            inputs = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
            self.input_port = _port(path, "input", inputs, 3)
            self.output_port = _port(path, "output", outputs, 1)
            height, width = self.input_port.shape[1:3]
            self.contract = contract_for(path, text, height, width)
            with _quiet():
                self._interpreter.allocate_tensors()
        except EgeunetError:
            raise
        except Exception as error:
            message = first_line(error)
            raise InputError(f"{path}: {self._refusal} ({message})") from error
        self.precision_note = f"input {self.input_port}, output {self.output_port}"

    def _opened(self, data: bytes, threads: int) -> Any:
        """LiteRT's interpreter of a file."""
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_content=data, num_threads=threads)

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        real = self.contract.normalize(checked_pixels(image_nhwc, self.contract))
        self._invoke(self.input_port.quantize(real))
        return self._interpreter.invoke  # the input stays set

    def __call__(self, image_nhwc: Pixels) -> Probability:
        real = self.contract.normalize(checked_pixels(image_nhwc, self.contract))
        stored = self.input_port.quantize(real)
        # The shape is that of the run: a damaged file may say another one when it is opened.
        parts = [self._invoke(stored[i : i + 1]) for i in range(len(stored))]  # (1, H, W, 1) each
        port = self.output_port
        given = np.concatenate(parts) if parts else np.zeros((0, *port.shape[1:]))
        return checked_probability(self._path, port.dequantize(given), image_nhwc)

    def _invoke(self, stored: Any) -> Any:
        try:
            self._interpreter.set_tensor(self.input_port.index, stored)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self.output_port.index)
        except (ValueError, RuntimeError) as error:
            message = first_line(error)
            raise InputError(f"{self._path}: LiteRT cannot run it ({message})") from error


def _port(path: Path, side: str, details: list[dict[str, Any]], channels: int) -> TensorPort:
    if len(details) != 1:
        names = ", ".join(str(detail["name"]) for detail in details) or "none"
        raise InputError(f"{path}: expected one {side}, got {len(details)}: {names}")
    detail = details[0]
    shape = tuple(int(side) for side in detail["shape"])
    if len(shape) != 4 or shape[0] != 1 or shape[3] != channels:
        raise InputError(
            f"{path}: {side} {detail['name']!r} has shape {shape}, expected (1, H, W, {channels})"
        )
    try:
        return TensorPort.of_tensor(detail)
    except InputError as error:
        raise InputError(f"{path}: {side} {detail['name']!r} is {error}") from error


def _try_in_another_process(path: Path) -> None:
    """Open the file and run one image where a crash costs nothing."""
    command = [sys.executable, "-P", "-m", "egeunet.export.runners.trial", str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{path}: one image took more than {TRIAL_SECONDS} s; the file is damaged, export again"
        ) from error
    if done.returncode < 0:
        raise InputError(
            f"{path}: LiteRT crashed on it (signal {-done.returncode}); "
            "the file is damaged, export it again"
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        message = lines[-1].removeprefix(f"{path}: ")
        raise InputError(f"{path}: {message}")


@contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT writes notes and its copy of every error straight to file descriptor 2."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
