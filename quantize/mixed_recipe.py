"""The result of a search: which operators stay in float32, as a file that egeunet-export takes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from egeunet.export.graph import Graph
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source
from egeunet.model.atomic import write_bytes
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.operator_groups import outputs_of
from egeunet.quantize.recipe_match import require_match
from egeunet.quantize.search import Step

SCHEMA_VERSION = 1
KIND = "egeunet mixed int8 recipe"


@dataclass(frozen=True)
class MixedRecipe:
    """Mixed precision for one graph of one set of weights.

    Attributes:
        keep_float: names of scopes and operators in float32; see operator_groups.py.
        max_drop: what was asked for, in points of pooled IoU.
        step: what the file reached.
        steps: every file that was measured on the way, in order.
        calibration: ranges of every activation, with weights and graph that they belong to.
        optimize: of the graph.
        data: the pictures that the drop was measured on, in words.
        images: how many.
        ids_sha256: which; see :func:`.calibration.ids_sha256`.
        float_iou: of the reference on them, 0..1.

    Raises:
        InputError: a field of the wrong type, a drop that is not what was asked for.
    """

    keep_float: tuple[str, ...]
    max_drop: float
    step: Step
    steps: tuple[Step, ...]
    calibration: Calibration
    optimize: str
    data: str
    images: int
    ids_sha256: str
    float_iou: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        texts = (*self.keep_float, self.optimize, self.data, self.ids_sha256)
        if not all(isinstance(text, str) for text in texts):
            raise InputError("names, optimize, data and hashes must be text")
        for name in ("max_drop", "float_iou"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value):
                raise InputError(f"{name} must be a finite number, got {value!r}")
        if self.step.iou_drop > self.max_drop:
            raise InputError(f"drop {self.step.iou_drop} is above the {self.max_drop} asked for")
        if self.step not in self.steps:
            raise InputError("its result is none of the steps that were measured")

    def prepared(self, graph: Graph, source: Source, request: ExportRequest) -> Prepared:
        """The graph in mixed precision; see :data:`egeunet.export.registry.Prepare`.

        Raises:
            InputError: the recipe is of other weights or of another graph.
        """
        require_match(self.calibration, self.optimize, graph, source, request)
        kept = outputs_of(graph, self.keep_float)
        quantized = quantize_int8(graph, self.calibration, source.contract, request.io_type, kept)
        details = {
            "kept_float": list(self.keep_float),
            "measured": {
                **self.step.to_dict(),
                "max_drop": self.max_drop,
                "data": self.data,
                "images": self.images,
            },
            **self.calibration.summary(),
        }
        return Prepared(quantized, details)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        values = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "keep_float": list(self.keep_float),
            "max_drop": self.max_drop,
            "step": self.step.to_dict(),
            "steps": [step.to_dict() for step in self.steps],
            "optimize": self.optimize,
            "data": self.data,
            "images": self.images,
            "ids_sha256": self.ids_sha256,
            "float_iou": self.float_iou,
            "calibration_sha256": self.calibration.sha256(),
            "calibration": self.calibration.to_dict(),
        }
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> MixedRecipe:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file, or its calibration was altered.
        """
        try:
            values = json.loads(path.read_text())
            head = values.pop("kind"), values.pop("schema_version")
            if head != (KIND, SCHEMA_VERSION):
                raise InputError(f"its kind is {head[0]!r}, its version {head[1]!r}")
            step, steps = Step(**values.pop("step")), values.pop("steps")
            calibration = Calibration.from_dict(values.pop("calibration"))
            if calibration.sha256() != values.pop("calibration_sha256"):
                raise InputError("its calibration was altered")
            parsed = tuple(Step(**one) for one in steps)
            return cls(step=step, steps=parsed, calibration=calibration, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(
                f"{path}: not a recipe of egeunet-quantize search ({error})"
            ) from error
