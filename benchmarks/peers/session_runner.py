"""The runner of a converted file: pixels in, probability out, over any peer's runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from egeunet.export.runners.runner import (
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    first_line,
)
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError


class Session(Protocol):
    """A runtime with a network loaded: what differs from peer to peer."""

    def bind(self, image_nchw: NDArray[np.float32]) -> Callable[[], object]:
        """Set the input, (1, 3, H, W) float32, and give the bare inference on it."""
        ...

    def read(self, output: Any) -> NDArray[Any]:
        """What the inference gave as an array of H * W probabilities, in any shape."""
        ...


class SessionRunner:
    """Runs a converted file; see :class:`egeunet.export.runners.Runner`. Batch 1, looped over."""

    precision_note = "input float32 NCHW, output float32 NCHW"

    def __init__(self, name: str, path: Path, contract: ModelContract, session: Session) -> None:
        self.name = name
        self.contract = contract
        self._path = path
        self._session = session

    def __call__(self, image_nhwc: Pixels) -> Probability:
        images = self._prepared(image_nhwc)
        height, width = images.shape[2:]
        output = np.zeros((len(images), height, width, 1), np.float32)
        for index in range(len(images)):
            output[index] = self._run(images[index : index + 1]).reshape(height, width, 1)
        return checked_probability(self._path, output, image_nhwc)

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        return self._session.bind(self._prepared(image_nhwc))

    def _prepared(self, image_nhwc: Pixels) -> NDArray[np.float32]:
        """(N, 3, H, W) float32, what the contract makes of the pixels."""
        real = self.contract.normalize(checked_pixels(image_nhwc, self.contract))
        return np.ascontiguousarray(real.transpose(0, 3, 1, 2))

    def _run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        try:
            infer = self._session.bind(image)
            output = np.asarray(self._session.read(infer()))
        except Exception as error:
            message = first_line(error)
            raise InputError(f"{self._path}: {self.name} cannot run it ({message})") from error
        pixels = image.shape[2] * image.shape[3]
        if output.size != pixels:
            raise InputError(
                f"{self._path}: the output has shape {output.shape}, "
                f"expected {pixels} probabilities, one a pixel"
            )
        return output
