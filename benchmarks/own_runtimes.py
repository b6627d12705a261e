"""The runtimes of our own files: torch, ONNX Runtime, LiteRT and Core ML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from egeunet.benchmarks.runtimes import missing_package, runtime
from egeunet.export.runners import Runner, open_runner
from egeunet.export.runners.coreml_runner import INTERPRETER

if TYPE_CHECKING:
    from egeunet.export.runners.torch_runner import TorchRunner

#: Name of the runtime of the reference, which all others are compared with.
REFERENCE = "torch"
WEIGHTS = (".safetensors", ".pth", ".pt")
#: Takes minutes to start, so --quick leaves it out unless it is named.
COMPILED = "torch-compile"


class _Own:
    """What our runtimes share."""

    name: str
    peer = False
    timed = True
    note: str | None = None
    suffixes: tuple[str, ...]
    package: tuple[str, str]  # and the extra that has it

    def problem(self) -> str | None:
        return missing_package(*self.package)

    def accepts(self, path: Path) -> bool:
        return path.suffix.lower() in self.suffixes

    def open(self, path: Path, threads: int) -> Runner:
        return open_runner(path, threads=threads)


@runtime
class Torch(_Own):
    """The reference: torch, eager."""

    name = REFERENCE
    suffixes = WEIGHTS
    package = ("torch", "torch")


@runtime
class TorchCompile(_Own):
    """The same network through torch.compile."""

    name = COMPILED
    suffixes = WEIGHTS
    package = ("torch", "torch")

    def problem(self) -> str | None:
        from shutil import which

        missing = super().problem()
        if missing is None and which("c++") is None and which("g++") is None:
            return "torch.compile needs a C++ compiler; install g++"
        return missing

    def open(self, path: Path, threads: int) -> TorchRunner:
        import torch

        from egeunet.export.runners.torch_runner import TorchRunner

        runner = TorchRunner(path, threads)
        torch.set_num_threads(threads)  # the generated code has the number in it
        runner.model.compile()
        runner.name = self.name
        return runner


@runtime
class OnnxRuntime(_Own):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    suffixes = (".onnx", ".ort")
    package = ("onnxruntime", "onnx")


@runtime
class LiteRT(_Own):
    """LiteRT with its XNNPACK delegate, as apps run it."""

    name = "litert-xnnpack"
    suffixes = (".tflite",)
    package = ("ai_edge_litert", "tflite")

    def open(self, path: Path, threads: int) -> Runner:
        from egeunet.export.runners.litert_runner import LiteRTRunner

        # No trial in a process of its own: a worker is one.
        return LiteRTRunner(path, threads, trial=False)


@runtime
class LiteRTBuiltin(_Own):
    """LiteRT's own kernels, without a delegate."""

    name = "litert-builtin"
    suffixes = (".tflite",)
    package = ("ai_edge_litert", "tflite")

    def open(self, path: Path, threads: int) -> Runner:
        from egeunet.benchmarks.litert_builtin import LiteRTBuiltinRunner

        return LiteRTBuiltinRunner(path, threads)


@runtime
class CoreML(_Own):
    """Core ML itself; on a Mac only."""

    name = "coreml"
    suffixes = (".mlpackage",)
    package = ("coremltools", "coreml")

    def problem(self) -> str | None:
        if not _on_a_mac():
            return "Core ML runs on a Mac only"
        return super().problem()


@runtime
class CoreMLInterpreter(_Own):
    """Our interpreter of a saved Core ML program, where there is no Mac."""

    name = INTERPRETER
    timed = False
    note: str | None = "interpreter, not Core ML"
    suffixes = (".mlpackage",)
    package = ("coremltools", "coreml")

    def problem(self) -> str | None:
        if _on_a_mac():
            return "Core ML itself runs here"
        return super().problem()


def _on_a_mac() -> bool:
    return sys.platform == "darwin"
