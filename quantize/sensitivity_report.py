"""A sensitivity on disk: the rows, and exactly what they were measured on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from egeunet.model.atomic import write_bytes
from egeunet.model.errors import InputError
from egeunet.quantize.sensitivity import Sensitivity

SCHEMA_VERSION = 1
KIND = "egeunet sensitivity"


@dataclass(frozen=True)
class SensitivityReport:
    """Rows and their origin.

    Attributes:
        weights_sha256: of the weights file.
        graph_sha256: structure of the graph that the names are of.
        calibration_sha256: :meth:`.calibration.Calibration.sha256`.
        data: the pictures in words.
        images: how many.
        ids_sha256: which; see :func:`.calibration.ids_sha256`.
        rows: the most harmful one first.

    Raises:
        InputError: a field of the wrong type.
    """

    weights_sha256: str
    graph_sha256: str
    calibration_sha256: str
    data: str
    images: int
    ids_sha256: str
    rows: tuple[Sensitivity, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("weights_sha256", "graph_sha256", "calibration_sha256", "data", "ids_sha256"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be text, got {getattr(self, name)!r}")
        if type(self.images) is not int or self.images < 1:
            raise InputError(f"images must be a positive integer, got {self.images!r}")

    def same_origin(self, other: SensitivityReport) -> bool:
        """Whether rows of both may stand in one table."""
        return replace(self, rows=()) == replace(other, rows=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        head = {"kind": KIND, "schema_version": SCHEMA_VERSION}
        return {**head, **asdict(self), "rows": [row.to_dict() for row in self.rows]}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_bytes(path, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> SensitivityReport:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file.
        """
        try:
            values = json.loads(path.read_text())
            head = values.pop("kind"), values.pop("schema_version")
            if head != (KIND, SCHEMA_VERSION):
                raise InputError(f"its kind is {head[0]!r}, its version {head[1]!r}")
            rows = tuple(Sensitivity(**row) for row in values.pop("rows"))
            return cls(**values, rows=rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{path}: not a sensitivity of egeunet-quantize ({error})") from error
