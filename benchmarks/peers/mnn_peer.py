"""MNN: torch.onnx's file through MNN's converter, run by Alibaba's MNN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package, contract_beside
from egeunet.benchmarks.peers.torch_onnx_peer import INPUT, OUTPUT, TorchOnnx
from egeunet.benchmarks.runtimes import runtime
from egeunet.model.contract import ModelContract


@runtime
class Mnn(ConvertedPeer):
    """The reference as MNN converts it from ONNX, its usual way from PyTorch."""

    name = "mnn"
    suffix = ".mnn"
    packages = (*TorchOnnx.packages, Package("MNN", "MNN"))
    starts_from = TorchOnnx

    def convert(self, source: Path, out: Path) -> ModelContract:
        # Not MNN.tools.mnnconvert, which is this and a report to its maker: importing that
        # installs a package by pip and sends the machine's id.
        import _tools

        arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(out)]
        _tools.mnnconvert(["mnnconvert", *arguments])
        return contract_beside(source)

    def session(self, path: Path, threads: int) -> MnnSession:
        return MnnSession(path, threads)


class MnnSession:
    """A module with one input (1, 3, H, W) and one output (1, 1, H, W)."""

    def __init__(self, path: Path, threads: int) -> None:
        from MNN import expr, nn

        self._expr = expr
        settings = {"backend": "CPU", "precision": "high", "numThread": threads}
        # The module's own argument thread_num is not heeded: it takes four.
        self._manager = nn.create_runtime_manager((settings,))
        self._module = nn.load_module_from_file(
            str(path),
            [INPUT],
            [OUTPUT],
            runtime_manager=self._manager,
            shape_mutable=False,
            rearrange=True,
        )

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        shape = list(image_nchw.shape)
        layout = self._expr.data_format.NCHW
        image = self._expr.const(image_nchw.ctypes.data, shape, layout, self._expr.dtype.float)
        return partial(self._module.forward, image)

    def read(self, output: Any) -> NDArray[Any]:
        # It computes in blocks of four channels.
        return self._expr.convert(output, self._expr.data_format.NCHW).read()
