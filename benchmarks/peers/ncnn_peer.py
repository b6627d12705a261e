"""ncnn: PyTorch through pnnx, run by Tencent's ncnn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package
from egeunet.benchmarks.runtimes import runtime
from egeunet.model.contract import ModelContract


@runtime
class Ncnn(ConvertedPeer):
    """The reference as pnnx converts it; a folder of ncnn's two files."""

    name = "ncnn"
    suffix = ".ncnn"
    packages = (Package("pnnx", "pnnx"), Package("ncnn", "ncnn"))

    def convert(self, source: Path, out: Path) -> ModelContract:
        import pnnx

        from egeunet.benchmarks.peers.reference import reference

        network, image, contract = reference(source)
        work = out.parent / "pnnx"  # it writes nine files, two of them ncnn's
        work.mkdir()
        # Without fp16 the weights stay float32, as in the other peers' files.
        pnnx.export(network, str(work / "model.pt"), (image,), fp16=False)
        out.mkdir()
        for suffix in ("param", "bin"):
            (work / f"model.ncnn.{suffix}").rename(out / f"model.ncnn.{suffix}")
        for left in work.iterdir():
            left.unlink()
        work.rmdir()
        return contract

    def session(self, path: Path, threads: int) -> NcnnSession:
        return NcnnSession(path, threads)


class NcnnSession:
    """A network of ncnn with one input (3, H, W) and one output (1, H, W)."""

    def __init__(self, path: Path, threads: int) -> None:
        import ncnn

        self._ncnn = ncnn
        self._net = ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = threads
        for load, suffix in ((self._net.load_param, "param"), (self._net.load_model, "bin")):
            if code := load(str(path / f"model.ncnn.{suffix}")):
                raise RuntimeError(f"loading model.ncnn.{suffix} gave code {code}")
        (self._input,) = self._net.input_names()
        (self._output,) = self._net.output_names()

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        image = self._ncnn.Mat(image_nchw[0]).clone()  # (3, H, W)

        def infer() -> Any:
            extractor = self._net.create_extractor()  # for one inference only: it keeps results
            extractor.input(self._input, image)
            code, output = extractor.extract(self._output)
            if code:
                raise RuntimeError(f"ncnn gave code {code}")
            return output

        return infer

    def read(self, output: Any) -> NDArray[Any]:
        return np.array(output)  # (1, H, W)
