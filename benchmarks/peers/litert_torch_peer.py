"""litert-torch: Google's converter from PyTorch to .tflite, run by LiteRT with XNNPACK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package
from egeunet.benchmarks.runtimes import runtime
from egeunet.export.runners.tensor_port import TensorPort
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

PACKAGES = (
    Package("litert_torch", "litert-torch"),
    Package("ai_edge_litert", "ai-edge-litert"),
)


@runtime
class LiteRTTorch(ConvertedPeer):
    """The reference as litert-torch converts it; input and output stay NCHW."""

    name = "litert-torch"
    suffix = ".tflite"
    packages = PACKAGES

    def convert(self, source: Path, out: Path) -> ModelContract:
        import litert_torch

        from egeunet.benchmarks.peers.reference import reference

        network, image, contract = reference(source)
        litert_torch.convert(network, (image,)).export(str(out))
        return contract

    def session(self, path: Path, threads: int) -> LiteRTSession:
        return LiteRTSession(path, threads)


class LiteRTSession:
    """A .tflite file with one input (1, 3, H, W) and one output, float32 or quantized."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = _port(self._interpreter.get_input_details(), "input")
        self._output = _port(self._interpreter.get_output_details(), "output")

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        self._interpreter.set_tensor(self._input.index, self._input.quantize(image_nchw))
        return self._interpreter.invoke

    def read(self, output: Any) -> NDArray[Any]:
        return self._output.dequantize(self._interpreter.get_tensor(self._output.index))


def _port(details: list[dict[str, Any]], side: str) -> TensorPort:
    if len(details) != 1:
        raise InputError(f"expected one {side}, the file has {len(details)}")
    return TensorPort.of_tensor(details[0])
