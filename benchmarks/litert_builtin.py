"""TFLite files with LiteRT's own kernels: what runs where a delegate does not take an operator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.runners.litert_runner import LiteRTRunner
from egeunet.export.runners.runner import Pixels
from egeunet.export.runners.tensor_port import DTYPES, TensorPort


class LiteRTBuiltinRunner(LiteRTRunner):
    """Like :class:`LiteRTRunner`, without XNNPACK.

    Args:
        keep_all: keep every tensor of a run, for :meth:`tensors`; slower.
    """

    name = "litert-builtin"
    _refusal = "LiteRT's own kernels refuse it"

    def __init__(self, path: Path, threads: int, *, keep_all: bool = False) -> None:
        self._keep_all = keep_all
        super().__init__(path, threads, trial=False)

    def _opened(self, data: bytes, threads: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        return Interpreter(
            model_content=data,
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=self._keep_all,
        )

    def ports(self) -> dict[int, TensorPort]:
        """How each tensor of a type that activations have is stored, by its number."""
        found = {}
        for detail in self._interpreter.get_tensor_details():
            dtype = np.dtype(detail["dtype"]).name
            scales = detail["quantization_parameters"]["scales"]
            if dtype in DTYPES and (len(scales) == 1 or dtype == "float32"):
                port = TensorPort.of_tensor(detail)
                found[port.index] = port
        return found

    def tensors(
        self, image_nhwc: Pixels, ports: Iterable[TensorPort]
    ) -> dict[int, NDArray[np.float32]]:
        """Run one image, uint8 (1, H, W, 3), and give tensors' real values by number."""
        real = self.contract.normalize(image_nhwc)
        self._invoke(self.input_port.quantize(real))
        return {p.index: p.dequantize(self._interpreter.get_tensor(p.index)) for p in ports}
