"""What a runner is, the registry of runners by file suffix, and the checks all share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

#: Key of the contract's JSON in an ONNX file's metadata_props.
CONTRACT_KEY = "egeunet.contract"
#: The one format that is a folder.
PACKAGE_SUFFIX = ".mlpackage"
#: A probability may leave 0..1 by this much (rounding of a calibrated scale).
RANGE_TOLERANCE = 1e-3

Pixels = NDArray[np.uint8]
Probability = NDArray[np.float32]


class Runner(Protocol):
    """One opened model file.

    Attributes:
        contract: what the file says of itself, or the defaults at its input size.
        name: the runtime, as reports show it ("torch", "onnxruntime", "litert-xnnpack").
        precision_note: types (and quantization) of input and output, in words.
    """

    contract: ModelContract
    name: str
    precision_note: str

    def __call__(self, image_nhwc: Pixels) -> Probability:
        """Segment images.

        Args:
            image_nhwc: uint8 (N, H, W, 3) pixels 0..255 at the contract's size.

        Returns:
            float32 (N, H, W, 1), probability of lesion, 0..1.

        Raises:
            InputError: another shape or dtype; a model that fails or gives NaN.
        """
        ...

    def bind(self, image_nhwc: Pixels) -> Callable[[], object]:
        """Prepare one image and give the bare inference on it, for timing.

        Args:
            image_nhwc: uint8 (1, H, W, 3); normalized and laid out once, here.

        Returns:
            A function that runs the network and leaves its output in the runtime's form.
        """
        ...


_FACTORIES: dict[str, Callable[[Path, int], Runner]] = {}
_Factory = TypeVar("_Factory", bound=Callable[[Path, int], Any])


def register(*suffixes: str) -> Callable[[_Factory], _Factory]:
    """Register ``factory(path, threads)`` as the runner of files with these suffixes."""

    def decorate(factory: _Factory) -> _Factory:
        for suffix in suffixes:
            if suffix in _FACTORIES:
                raise ValueError(f"two runners for {suffix}")
            _FACTORIES[suffix] = factory
        return factory

    return decorate


def known_suffixes() -> tuple[str, ...]:
    """Suffixes of the files that :func:`open_runner` takes."""
    return tuple(sorted(_FACTORIES))


def open_runner(path: str | Path, *, threads: int = 1) -> Runner:
    """Open a model file with the runtime of its suffix.

    Args:
        path: .safetensors, .pth, .pt, .onnx, .ort, .tflite or .mlpackage.
        threads: how many CPU threads the runtime may use.

    Raises:
        InputError: absent or corrupted file, unknown suffix, or a model whose input
            or output is not what the contract says.
        MissingExtraError: the runtime is not installed.
    """
    path = Path(path)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads must be a positive integer, got {threads!r}")
    suffix = path.suffix.lower()
    if suffix not in _FACTORIES:
        raise InputError(
            f"{path}: no runner for {suffix or 'a file without suffix'!r}; "
            f"known: {', '.join(known_suffixes())}"
        )
    if not (path.is_dir() if suffix == PACKAGE_SUFFIX else path.is_file()):
        raise InputError(f"model not found: {path}; give the path of an exported or trained file")
    return _FACTORIES[suffix](path, threads)


def contract_for(
    path: Path, text: str | None, height: int | None, width: int | None
) -> ModelContract:
    """The contract in a file, checked against its input size; defaults where it has none.

    ``height`` and ``width`` are the model's, None where it takes any size.
    """
    try:
        if text is None:
            default = ModelContract()
            return ModelContract(height or default.height, width or default.width)
        contract = ModelContract.from_dict(json.loads(text))
    except (ValueError, TypeError, RecursionError, InputError) as error:
        raise InputError(f"{path}: unusable contract or input size ({error})") from error
    for name, have, want in (
        ("height", height, contract.height),
        ("width", width, contract.width),
    ):
        if have not in (None, want):
            raise InputError(f"{path}: input {name} is {have} but its contract says {want}")
    return contract


def checked_pixels(image_nhwc: Pixels, contract: ModelContract) -> Pixels:
    """Refuse anything but uint8 (N, H, W, 3) at the contract's size."""
    want = (contract.height, contract.width, 3)
    if image_nhwc.dtype != np.uint8 or image_nhwc.ndim != 4 or image_nhwc.shape[1:] != want:
        raise InputError(
            f"a runner takes uint8 pixels (N, {want[0]}, {want[1]}, 3), "
            f"got {image_nhwc.dtype} {image_nhwc.shape}; resize the image first"
        )
    return image_nhwc


def checked_probability(path: Path, output: NDArray[Any], images: Pixels) -> Probability:
    """Refuse an output that is not (N, H, W, 1) of probabilities; give it as float32."""
    want = (*images.shape[:3], 1)
    if output.shape != want:
        raise InputError(f"{path}: the model gives shape {output.shape}, expected {want} (NHWC)")
    if not np.isfinite(output).all():
        broken = "NaN" if np.isnan(output).any() else "infinite values"
        raise InputError(f"{path}: the model gives {broken}; its weights are broken, export again")
    low, high = float(output.min(initial=0)), float(output.max(initial=0))
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise InputError(
            f"{path}: the model gives values from {low:.3g} to {high:.3g}, expected "
            "probabilities 0..1; export it with its final sigmoid"
        )
    probability: Probability = np.clip(output, 0.0, 1.0).astype(np.float32, copy=False)
    return probability


def fixed_side(value: object) -> int | None:
    """A model's input side as an integer, None where it is symbolic (a name, None or -1)."""
    return value if isinstance(value, int) and value > 0 else None


def first_line(error: BaseException) -> str:
    """The first line of a runtime's message, short enough for one line of ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
