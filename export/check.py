"""Parity of a finished file with the reference, on a few synthetic pictures.

A quick check that no broken file leaves the exporter; the full one is
``egeunet-evaluate FILE --reference WEIGHTS --data DIR`` on real images.
"""

from __future__ import annotations

import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.export.registry import Format
from egeunet.export.request import Source
from egeunet.export.runners import known_suffixes, open_runner
from egeunet.export.runners.torch_runner import TorchRunner
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.errors import GateError
from egeunet.model.metrics import agreement, mask_iou

IMAGES = 6
#: Not the pictures that int8 is calibrated on.
_SEED = 1000


def gates_of(precision: str) -> dict[str, float]:
    """The gates of a precision, from gates.toml."""
    text = (resources.files("egeunet.export") / "gates.toml").read_text()
    gates: dict[str, float] = tomllib.loads(text)[precision]
    return gates


def check_parity(path: Path, kind: Format, source: Source, precision: str) -> dict[str, Any]:
    """Measure, compare with the gates, and give both.

    Raises:
        GateError: a gate is missed, or a mask is constant where the reference's is not.
    """
    if kind.suffix not in known_suffixes():
        return {"checked": False, "reason": f"no runtime for {kind.name} on {sys.platform}"}
    side = (source.contract.height, source.contract.width)
    images = np.stack([_picture(i, side) for i in range(IMAGES)])
    expected = TorchRunner.from_model(source.model, source.contract)(images)
    actual = open_runner(path)(images)
    masks = [p[..., 0] >= source.contract.threshold for p in (expected, actual)]
    constant = [[mask.all() or not mask.any() for mask in group] for group in masks]
    measured = {
        "max_abs_diff": float(np.abs(actual - expected).max()),
        "agreement": float(agreement(*masks)),
        "mask_iou": float(mask_iou(*masks)),
        "new_constant_masks": sum(b and not a for a, b in zip(*constant, strict=True)),
    }
    gates = {**gates_of(precision), "new_constant_masks": 0}
    failed = [name for name, gate in gates.items() if not _holds(name, measured[name], gate)]
    if failed:
        text = ", ".join(f"{n} {measured[n]:.4g} (gate {gates[n]:g})" for n in failed)
        raise GateError(
            f"{path.name} is not as good as the reference: {text}; the file was not kept"
        )
    return {"checked": True, "images": f"{IMAGES} synthetic", "measured": measured, "gates": gates}


def _holds(name: str, value: float, gate: float) -> bool:
    return value >= gate if name in ("agreement", "mask_iou") else value <= gate


def _picture(index: int, side: tuple[int, int]) -> np.ndarray:
    from egeunet.model.data.resize import resize_image

    image, _ = synthetic_sample(index, max(side), _SEED)
    return resize_image(image, *side)
