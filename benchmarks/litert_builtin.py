"""TFLite files with LiteRT's own kernels: what runs where a delegate does not take an operator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egeunet.export.runners.litert_runner import LiteRTRunner
from egeunet.export.runners.runner import Pixels, first_line
from egeunet.export.runners.tensor_port import DTYPES, TensorPort
from egeunet.model.errors import InputError, needs_extra


class LiteRTBuiltinRunner(LiteRTRunner):
    """Like :class:`LiteRTRunner`, without XNNPACK.

    Args:
        keep_all: keep every tensor of a run, for :meth:`tensors`; slower.
    """

    name = "litert-builtin"

    def __init__(self, path: Path, threads: int, *, keep_all: bool = False) -> None:
        with needs_extra("tflite"):
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        super().__init__(path, threads, trial=False)  # all the checks
        try:
            self._interpreter = Interpreter(
                model_content=path.read_bytes(),
                num_threads=threads,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=keep_all,
            )
            self._interpreter.allocate_tensors()
        except (OSError, ValueError, RuntimeError) as error:
            message = first_line(error)
            raise InputError(f"{path}: LiteRT's own kernels refuse it ({message})") from error

    def ports(self) -> dict[int, TensorPort]:
        """How each tensor of a type that activations have is stored, by its number."""
        found = {}
        for detail in self._interpreter.get_tensor_details():
            dtype, index = np.dtype(detail["dtype"]).name, int(detail["index"])
            scales = detail["quantization_parameters"]["scales"]
            zeros = detail["quantization_parameters"]["zero_points"]
            if dtype in DTYPES and (len(scales) == 1 or dtype == "float32"):
                shape = tuple(int(side) for side in detail["shape"])
                stored = (float(scales[0]), int(zeros[0])) if len(scales) else (0.0, 0)
                found[index] = TensorPort(index, shape, dtype, *stored)
        return found

    def tensors(
        self, image_nhwc: Pixels, ports: Iterable[TensorPort]
    ) -> dict[int, NDArray[np.float32]]:
        """Run one image, uint8 (1, H, W, 3), and give tensors' real values by number."""
        real = self.contract.normalize(image_nhwc)
        self._invoke(self._input.quantize(real))
        return {p.index: p.dequantize(self._interpreter.get_tensor(p.index)) for p in ports}
