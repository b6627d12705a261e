"""ExecuTorch: PyTorch's own runtime for phones, with its XNNPACK backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package
from egeunet.benchmarks.runtimes import runtime
from egeunet.model.contract import ModelContract


@runtime
class ExecuTorch(ConvertedPeer):
    """The reference lowered to XNNPACK as far as its partitioner takes it."""

    name = "executorch"
    suffix = ".pte"
    packages = (Package("executorch", "executorch"),)

    def convert(self, source: Path, out: Path) -> ModelContract:
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from egeunet.benchmarks.peers.reference import reference

        network, image, contract = reference(source)
        with torch.no_grad():
            exported = torch.export.export(network, (image,))
            edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            program = edge.to_executorch()
        with out.open("wb") as file:
            program.write_to_file(file)
        return contract

    def session(self, path: Path, threads: int) -> ExecuTorchSession:
        return ExecuTorchSession(path, threads)


class ExecuTorchSession:
    """A program whose method ``forward`` takes (1, 3, H, W) and gives (1, 1, H, W)."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        torch.set_num_threads(threads)  # its kernels beside XNNPACK's take those of torch
        # One pool for the process; a loaded program must not lose the one that it knows.
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
        self._program = Runtime.get().load_program(path)  # owns what the method refers to
        self._method = self._program.load_method("forward")
        if self._method is None:
            raise RuntimeError("the program has no method 'forward'")

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        import torch

        return partial(self._method.execute, [torch.from_numpy(image_nchw)])

    def read(self, output: Any) -> NDArray[Any]:
        return output[0].numpy()  # (1, 1, H, W)
