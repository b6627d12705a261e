"""What is asked for and what comes out of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

if TYPE_CHECKING:
    from egeunet.model.egeunet import EGEUNet

OPTIMIZATIONS = ("speed", "size")
IO_TYPES = ("float32", "uint8", "int8")
METADATA = ("full", "contract", "none")
NORMS = ("tuned", "exact")
#: The formats that take several images a run, and those that take any size.
BATCH_FORMATS, DYNAMIC_FORMATS = ("onnx", "ort"), ("onnx",)
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class ExportRequest:
    """One file to make.

    Attributes:
        format, precision: names in the registry.
        weights: a weights file; None = the shipped ones.
        out: folder of the result.
        io: type of the file's input and output; None = uint8 for int8, else float32.
        size: side of the input in pixels; None = the contract's of the weights.
        optimize: ``speed`` or ``size``, where the two part.
        calibration: folder with images for int8; None = shipped or synthetic ones.
        check: run the parity gates on the finished file.
        metadata: what a .tflite says about itself: ``none``, ``contract`` (ours) or ``full``
            (ours and the standard description of an image segmenter); None = by
            :meth:`metadata_for`.
        batch: images that the file takes a run.
        dynamic: the file takes any batch and any sides that are multiples of 32; its contract
            says ``size`` all the same.
        recipe: a file of egeunet-quantize that says how int8 is made; None = the default way.
        target_bytes: what the file shall be no larger than; None = nothing is asked for.
        norms: of int8: ``exact``, the reference's, or ``tuned``: as a fine-tuning left them, which
            is smaller and faster; None = tuned where there is such for weights and size.

    Raises:
        InputError: for values that contradict each other.
    """

    format: str
    precision: str
    weights: Path | None = None
    out: Path = Path("build")
    io: str | None = None
    size: int | None = None
    optimize: str = "speed"
    calibration: Path | None = None
    check: bool = True
    metadata: str | None = None
    batch: int = 1
    dynamic: bool = False
    recipe: Path | None = None
    target_bytes: int | None = None
    norms: str | None = None

    def __post_init__(self) -> None:
        if self.io is not None and self.io not in IO_TYPES:
            raise InputError(f"--io must be one of {', '.join(IO_TYPES)}, got {self.io!r}")
        if self.optimize not in OPTIMIZATIONS:
            known = " or ".join(OPTIMIZATIONS)
            raise InputError(f"--optimize must be {known}, got {self.optimize!r}")
        if self.metadata not in (None, *METADATA):
            raise InputError(
                f"--metadata must be one of {', '.join(METADATA)}, got {self.metadata!r}"
            )
        if self.metadata is not None and self.format != "tflite":
            raise InputError(
                f"--metadata {self.metadata} is for format tflite; "
                f"a file of format {self.format} always carries its contract"
            )
        integer = self.integer
        if not integer and self.io not in (None, "float32"):
            raise InputError(f"--io {self.io} needs --int8, not precision {self.precision}")
        if not integer and self.calibration is not None:
            raise InputError(f"--calibration is for --int8, not for precision {self.precision}")
        if self.precision != "int8" and self.recipe is not None:
            raise InputError(f"--recipe is for --int8, not for precision {self.precision}")
        if self.recipe is not None and self.calibration is not None:
            raise InputError("--recipe has its own calibration; leave --calibration out")
        self._check_norms()
        if self.target_bytes is not None and self.target_bytes < 1:
            raise InputError(f"--target-bytes must be 1 or more, got {self.target_bytes}")
        self._check_shape()

    def _check_norms(self) -> None:
        if self.norms is None:
            return
        if self.norms not in NORMS:
            raise InputError(f"--norms must be {' or '.join(NORMS)}, got {self.norms!r}")
        if self.precision != "int8":
            raise InputError(f"--norms is for --int8, not for precision {self.precision}")
        if self.recipe is not None:
            raise InputError("--recipe says which norms there are; leave --norms out")
        if self.norms == "tuned" and self.calibration is not None:
            raise InputError("--norms tuned has trained ranges; leave --calibration out")

    def _check_shape(self) -> None:
        if not 1 <= self.batch <= LARGEST_BATCH:
            raise InputError(f"--batch must be 1 to {LARGEST_BATCH}, got {self.batch}")
        if self.batch != 1 and self.format not in BATCH_FORMATS:
            raise InputError(
                f"--batch {self.batch} is for format {' or '.join(BATCH_FORMATS)}; a file of "
                f"format {self.format} takes one image a run"
            )
        if self.dynamic and self.format not in DYNAMIC_FORMATS:
            raise InputError(
                f"--dynamic is for format {' or '.join(DYNAMIC_FORMATS)}; "
                f"export format {self.format} once for each --size"
            )
        if self.integer and (self.dynamic or self.batch != 1):
            asked = "--dynamic" if self.dynamic else f"--batch {self.batch}"
            raise InputError(f"{asked} is for float precisions; an int8 file takes one image a run")
        if self.dynamic and self.batch != 1:
            raise InputError(f"--dynamic takes any batch, so --batch {self.batch} says nothing")

    @property
    def integer(self) -> bool:
        """Whether the file computes in integers from end to end, so that its ends may be."""
        return self.precision.startswith("int") and not self.precision.endswith("dynamic")

    @property
    def io_type(self) -> str:
        """The type of the file's ends."""
        return self.io or ("uint8" if self.integer else "float32")

    def metadata_for(self, contract: ModelContract) -> str:
        """What the file will say about itself: ``none``, ``contract`` or ``full``.

        By itself ``full`` in a .tflite with float input, which MediaPipe refuses without it. It
        takes a uint8 input as it is, so there the 600 bytes have to be asked for.

        Raises:
            InputError: ``full`` is asked for and the standard has no words for the contract.
        """
        sayable = contract.normalization == "unit"  # its normalization is (x - mean) / std
        if self.metadata == "full" and not sayable:
            raise InputError(
                f"--metadata full cannot describe normalization {contract.normalization!r}: the "
                "standard knows (pixel - mean) / std only; use --metadata contract"
            )
        if self.metadata is not None:
            return self.metadata
        needed = self.format == "tflite" and self.io_type == "float32"
        return "full" if needed and sayable else "contract"


@dataclass(frozen=True)
class Source:
    """The weights an export starts from.

    Attributes:
        model: in eval mode.
        contract: at the size of the export.
        weights: file name.
        sha256: of the weights file.
    """

    model: EGEUNet
    contract: ModelContract
    weights: str
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """A finished file and what is known about it (also in FILE.json beside it)."""

    path: Path
    report: dict[str, Any]
