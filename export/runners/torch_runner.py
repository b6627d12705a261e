"""The reference network itself, from safetensors or a checkpoint of the public code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from egeunet.export.runners.runner import (
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    register,
)
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

if TYPE_CHECKING:
    from egeunet.model.egeunet import EGEUNet


@register(".safetensors", ".pth", ".pt")
class TorchRunner:
    """Runs weights with torch, eager, float32, on the CPU; see :class:`Runner`."""

    name = "torch"
    precision_note = "input float32 NCHW, output float32 NCHW"

    def __init__(self, path: Path, threads: int) -> None:
        from egeunet.model import load_weights

        self.model, self.contract = load_weights(path)
        config = self.model.config
        if (config.input_channels, config.num_classes) != (3, 1):
            raise InputError(
                f"{path}: expected 3 input channels and 1 class, "
                f"got {config.input_channels} and {config.num_classes}"
            )
        self._path = path
        self._threads = threads

    @classmethod
    def from_model(cls, model: EGEUNet, contract: ModelContract, threads: int = 1) -> TorchRunner:
        """A runner of a network that is in memory already."""
        runner = cls.__new__(cls)
        runner.model, runner.contract = model, contract
        runner._path, runner._threads = Path("network in memory"), threads
        return runner

    def __call__(self, image_nhwc: Pixels) -> Probability:
        import torch

        image = torch.from_numpy(self._input(image_nhwc))
        with torch.inference_mode(), _threads(self._threads):
            output = self.model(image).probability.numpy()  # (N, 1, H, W)
        return checked_probability(self._path, output.transpose(0, 2, 3, 1), image_nhwc)

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        import torch

        image = torch.from_numpy(self._input(image_nhwc))

        def infer() -> object:
            with torch.inference_mode(), _threads(self._threads):
                return self.model(image).probability

        return infer

    def _input(self, image_nhwc: Pixels) -> Probability:
        real = self.contract.normalize(checked_pixels(image_nhwc, self.contract))
        return np.ascontiguousarray(real.transpose(0, 3, 1, 2))  # (N, 3, H, W)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch's thread count is global: set it for the call and put it back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
