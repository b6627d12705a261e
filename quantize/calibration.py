"""Calibration: the range of every activation over a representative dataset."""

from __future__ import annotations

import hashlib
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
from egeunet.quantize.range_methods import Observer, RangeMethod

#: What a file of :meth:`Calibration.save` says it is; older ones say nothing.
KIND = "egeunet calibration"


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
        method: how the ranges were chosen, in words; see range_methods.py.
        ids_sha256: :func:`ids_sha256` of the images; empty = unknown.

    Raises:
        InputError: a range that is not finite or upside down, a count below one, a hash or
            a word that is no text.
    """

    ranges: dict[str, tuple[float, float]]
    source: str
    images: int
    weights_sha256: str
    height: int
    width: int
    graph_sha256: str = ""
    method: str = "min-max"
    ids_sha256: str = ""

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not (np.isfinite([low, high]).all() and low <= high):
                raise InputError(f"range of {name} must be finite, got {low} to {high}")
        for field in ("images", "height", "width"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{field} must be a positive integer, got {value!r}")
        for field in ("source", "weights_sha256", "graph_sha256", "method", "ids_sha256"):
            if not isinstance(getattr(self, field), str):
                raise InputError(f"{field} must be text, got {getattr(self, field)!r}")

    def matches(self, graph: Graph, weights_sha256: str) -> bool:
        """Whether it was recorded on this graph with these weights."""
        recorded = (self.graph_sha256, self.weights_sha256)
        return recorded == (graph.structure_sha256(), weights_sha256)

    def summary(self) -> dict[str, Any]:
        """What the report of an exported file says about it, JSON-ready."""
        return {
            "calibration": self.source,
            "calibration_images": self.images,
            "calibration_method": self.method,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "source": self.source,
            "images": self.images,
            "weights_sha256": self.weights_sha256,
            "height": self.height,
            "width": self.width,
            "graph_sha256": self.graph_sha256,
            "method": self.method,
            "ids_sha256": self.ids_sha256,
            "ranges": {
                name: [float(f"{bound:.6g}") for bound in bounds]
                for name, bounds in self.ranges.items()
            },
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of :meth:`to_dict`; ``method`` and the hashes may be absent.

        Raises:
            InputError: a bad value.
            KeyError, TypeError, ValueError, AttributeError: of another shape altogether.
        """
        items = values["ranges"].items()
        ranges = {name: (float(low), float(high)) for name, (low, high) in items}
        return cls(**{**values, "ranges": ranges})

    def sha256(self) -> str:
        """Of everything that it records, ranges in six digits: equal for equal calibrations."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        values = {"kind": KIND, **self.to_dict()}
        write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file.
        """
        try:
            values = json.loads(path.read_text())
            kind = values.pop("kind", KIND)
            if kind != KIND:
                raise InputError(f"its kind is {kind!r}")
            return cls.from_dict(values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{path}: not a calibration file ({error})") from error


def ids_sha256(ids: Iterable[str]) -> str:
    """SHA-256 of the sorted ids, one a line: which images, whatever their order."""
    return hashlib.sha256("".join(f"{id}\n" for id in sorted(ids)).encode()).hexdigest()


def calibrate(
    graph: Graph,
    contract: ModelContract,
    images_nhwc: Iterable[NDArray[np.uint8]],
    *,
    source: str,
    weights_sha256: str,
    method: RangeMethod = RangeMethod(),  # noqa: B008 - frozen
    ids: Iterable[str] = (),
) -> Calibration:
    """Run the float graph on images, one at a time, and choose every activation's range.

    By default the extremes of each image are averaged: that is less at the mercy of one odd
    picture than the extremes over all (Jacob et al., 2018, section 3.1, do the same with a
    moving average).

    Args:
        graph: of primitive operators.
        contract: how pixels become the graph's input.
        images_nhwc: uint8 (H, W, 3) at the contract's size.
        source, weights_sha256: recorded.
        method: how a range is chosen.
        ids: names of the images; their hash is recorded.

    Raises:
        InputError: no image, an image of another size, or a range that is not finite.
    """
    observers: dict[str, Observer] = {}
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
            if not torch.isfinite(tensor).all():
                raise InputError(f"activation {name} is not finite; are the weights broken?")
            if name not in observers:
                observers[name] = method.observer()
            observers[name].add(tensor)
    if count == 0:
        raise InputError("no calibration image")
    named = tuple(ids)
    return Calibration(
        {name: observer.range() for name, observer in observers.items()},
        source,
        count,
        weights_sha256,
        contract.height,
        contract.width,
        graph.structure_sha256(),
        str(method),
        ids_sha256(named) if named else "",
    )
