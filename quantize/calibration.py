"""Calibration: the range of every activation over a representative dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from egeunet.export.graph import Graph
from egeunet.export.interpret import activations
from egeunet.model.atomic import write_bytes
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """What was seen, and on what.

    Attributes:
        ranges: value name of the primitive graph -> (low, high), both finite.
        source: the representative dataset in words, for the report.
        images: how many.
        weights_sha256: of the weights file; ranges of other weights mean nothing.
        height, width: of the images in pixels.
        graph_sha256: structure of the graph whose values are named; empty = unknown.

    Raises:
        InputError: a range that is not finite or upside down, a count below one.
    """

    ranges: dict[str, tuple[float, float]]
    source: str
    images: int
    weights_sha256: str
    height: int
    width: int
    graph_sha256: str = ""

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not (np.isfinite([low, high]).all() and low <= high):
                raise InputError(f"range of {name} must be finite, got {low} to {high}")
        for field in ("images", "height", "width"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{field} must be a positive integer, got {value!r}")

    def matches(self, graph: Graph, weights_sha256: str) -> bool:
        """Whether it was recorded on this graph with these weights."""
        recorded = (self.graph_sha256, self.weights_sha256)
        return recorded == (graph.structure_sha256(), weights_sha256)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "source": self.source,
            "images": self.images,
            "weights_sha256": self.weights_sha256,
            "height": self.height,
            "width": self.width,
            "graph_sha256": self.graph_sha256,
            "ranges": {
                name: [float(f"{bound:.6g}") for bound in bounds]
                for name, bounds in self.ranges.items()
            },
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_bytes(path, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file.
        """
        try:
            values = json.loads(path.read_text())
            items = values.pop("ranges").items()
            ranges = {name: (float(low), float(high)) for name, (low, high) in items}
            return cls(ranges=ranges, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{path}: not a calibration file ({error})") from error


def calibrate(
    graph: Graph,
    contract: ModelContract,
    images_nhwc: Iterable[NDArray[np.uint8]],
    *,
    source: str,
    weights_sha256: str,
) -> Calibration:
    """Run the float graph on images, one at a time, and average the extremes.

    The average over images of each image's minimum and maximum is less at the mercy
    of one odd picture than the extreme over all (Jacob et al., 2018, section 3.1, do
    the same with a moving average).

    Args:
        graph: of primitive operators.
        contract: how pixels become the graph's input.
        images_nhwc: uint8 (H, W, 3) at the contract's size.
        source, weights_sha256: recorded.

    Raises:
        InputError: no image, an image of another size, or a range that is not finite.
    """
    totals: dict[str, NDArray[np.float64]] = {}
    count = 0
    for image in images_nhwc:
        if image.shape != (contract.height, contract.width, 3):
            raise InputError(
                f"calibration image of shape {image.shape}, expected "
                f"{(contract.height, contract.width, 3)}"
            )
        count += 1
        pixels = torch.from_numpy(contract.normalize(image[None]))
        for name, tensor in activations(graph, pixels):
            bounds = np.array([float(tensor.min()), float(tensor.max())])
            if not np.isfinite(bounds).all():
                raise InputError(f"activation {name} is not finite; are the weights broken?")
            totals[name] = totals.get(name, np.zeros(2)) + bounds
    if count == 0:
        raise InputError("no calibration image")
    ranges = {name: (total[0] / count, total[1] / count) for name, total in totals.items()}
    return Calibration(
        ranges,
        source,
        count,
        weights_sha256,
        contract.height,
        contract.width,
        graph.structure_sha256(),
    )
