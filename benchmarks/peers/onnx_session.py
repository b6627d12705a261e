"""An .onnx file of another tool in ONNX Runtime, set up as our own files are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.onnx.runtime import onnxruntime


class OnnxSession:
    """One float32 input (1, 3, H, W), one float32 output."""

    def __init__(self, path: Path, threads: int) -> None:
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (port,) = self._session.get_inputs()
        self._input = port.name

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        return partial(self._session.run, None, {self._input: image_nchw})

    def read(self, output: Any) -> NDArray[Any]:
        return output[0]  # (1, 1, H, W)
