"""OpenVINO: torch.onnx's file through its converter, run by its CPU plug-in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package, contract_beside
from egeunet.benchmarks.peers.torch_onnx_peer import TorchOnnx
from egeunet.benchmarks.runtimes import runtime
from egeunet.model.contract import ModelContract


@runtime
class OpenVino(ConvertedPeer):
    """The reference as OpenVINO converts it; a folder of its two files (IR).

    It converts from PyTorch, too: the IR is then a third larger (812,827 bytes instead of
    611,627 with the shipped weights).
    """

    name = "openvino"
    note: str | None = "runs torch-onnx's file, too, without a file of its own"
    suffix = ".openvino"
    packages = (*TorchOnnx.packages, Package("openvino", "openvino"))
    starts_from = TorchOnnx

    def convert(self, source: Path, out: Path) -> ModelContract:
        import openvino

        model = openvino.convert_model(str(source))
        out.mkdir()
        # Uncompressed, as in the other peers' files; its default is float16 weights.
        openvino.save_model(model, str(out / "model.xml"), compress_to_fp16=False)
        return contract_beside(source)

    def session(self, path: Path, threads: int) -> OpenVinoSession:
        return OpenVinoSession(path, threads)


class OpenVinoSession:
    """A compiled model with one input (1, 3, H, W) and one output (1, 1, H, W)."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        # float32 also on processors with bfloat16, where it would take that.
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._tensor = openvino.Tensor
        core = openvino.Core()
        compiled = core.compile_model(str(path / "model.xml"), "CPU", settings)
        self._request = compiled.create_infer_request()

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        self._image = image_nchw  # its memory is used in place
        self._request.set_input_tensor(self._tensor(image_nchw, shared_memory=True))
        return partial(self._request.infer, share_outputs=True)

    def read(self, output: Any) -> NDArray[Any]:
        return np.array(self._request.get_output_tensor().data)
