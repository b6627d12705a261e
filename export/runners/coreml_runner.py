"""Core ML packages: by Core ML on a Mac, by our interpreter of the saved program elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egeunet.export.runners.runner import (
    CONTRACT_KEY,
    PACKAGE_SUFFIX,
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    contract_for,
    first_line,
    register,
)
from egeunet.model.contract import ModelContract
from egeunet.model.errors import EgeunetError, InputError, needs_extra

if TYPE_CHECKING:
    from egeunet.export.coreml.package import Package

#: Name of the runner that executes the saved program without Core ML.
INTERPRETER = "coreml-interpreter"


@register(PACKAGE_SUFFIX)
class CoreMLRunner:
    """Runs a package; see :class:`Runner`. ``name`` says which of the two it was."""

    def __init__(self, path: Path, threads: int) -> None:
        with needs_extra("coreml"):
            self._package, self._takes_image, self.contract = read_package(path)
        self._path = path
        self._predict = self._core_ml() if sys.platform == "darwin" else self._interpret
        self.name = "coreml" if sys.platform == "darwin" else INTERPRETER
        kind = "RGB image" if self._takes_image else "normalized array"
        self.precision_note = f"input {kind}, output {self._package.output_name}"

    def __call__(self, image_nhwc: Pixels) -> Probability:
        images = self._prepared(image_nhwc)
        parts = [self._run(images[i : i + 1]) for i in range(len(images))]  # (1, 1, H, W)
        output = np.concatenate(parts) if parts else np.zeros((0, 1, *images.shape[2:]))
        return checked_probability(self._path, output.transpose(0, 2, 3, 1), image_nhwc)

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        image = self._prepared(image_nhwc)
        return lambda: self._run(image)

    def _prepared(self, image_nhwc: Pixels) -> Any:
        """(N, 3, H, W) float32: pixels for an image input, else what the contract makes of them."""
        pixels: Any = checked_pixels(image_nhwc, self.contract)
        if not self._takes_image:
            pixels = self.contract.normalize(pixels)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)

    def _run(self, image: Any) -> Any:
        try:
            return self._predict(image)
        except Exception as error:
            message = first_line(error)
            raise InputError(f"{self._path}: the package cannot be run ({message})") from error

    def _interpret(self, image: Any) -> Any:
        from egeunet.export.coreml.interpret import interpret

        return interpret(self._package, image).numpy()

    def _core_ml(self) -> Callable[[Any], Any]:
        import coremltools
        from PIL import Image

        model = coremltools.models.MLModel(str(self._path))

        def predict(image: Any) -> Any:
            given: Any = image
            if self._takes_image:
                given = Image.fromarray(image[0].transpose(1, 2, 0).astype(np.uint8))
            return model.predict({self._package.input_name: given})[self._package.output_name]

        return predict


def read_package(path: Path) -> tuple[Package, bool, ModelContract]:
    """A saved package, whether its input is an image, and what its file says of itself.

    Raises:
        InputError: not a package of ours that can be read.
        ModuleNotFoundError: torch is not installed.
    """
    from egeunet.export.coreml.package import Package

    try:
        package = Package(path)
        kind = package.specification.description.input[0].type
        text = package.metadata.get(CONTRACT_KEY)
        contract = contract_for(path, text, *_sides(kind))
        return package, kind.WhichOneof("Type") == "imageType", contract
    except EgeunetError:
        raise
    except Exception as error:  # protobuf and coremltools raise whatever the bytes provoke
        message = first_line(error)
        raise InputError(f"{path}: not a Core ML package that can be read ({message})") from error


def _sides(kind: Any) -> tuple[int, int]:
    if kind.WhichOneof("Type") == "imageType":
        return int(kind.imageType.height), int(kind.imageType.width)
    height, width = kind.multiArrayType.shape[2:4]
    return int(height), int(width)
