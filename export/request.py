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

    def __post_init__(self) -> None:
        if self.io is not None and self.io not in IO_TYPES:
            raise InputError(f"--io must be one of {', '.join(IO_TYPES)}, got {self.io!r}")
        if self.optimize not in OPTIMIZATIONS:
            known = " or ".join(OPTIMIZATIONS)
            raise InputError(f"--optimize must be {known}, got {self.optimize!r}")
        integer = self.precision.startswith("int8")
        if not integer and self.io not in (None, "float32"):
            raise InputError(f"--io {self.io} needs --int8, not precision {self.precision}")
        if not integer and self.calibration is not None:
            raise InputError(f"--calibration is for --int8, not for precision {self.precision}")

    @property
    def io_type(self) -> str:
        """The type of the file's ends."""
        return self.io or ("uint8" if self.precision.startswith("int8") else "float32")


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
