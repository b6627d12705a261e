"""What each part of the network loses when it alone is quantized to int8."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from egeunet.export.graph import Graph
from egeunet.export.interpret import run_graph
from egeunet.model.contract import ModelContract
from egeunet.model.data.prepared import PreparedData
from egeunet.model.errors import InputError
from egeunet.model.metrics import counts, mask_iou, scores
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.simulation import in_real_numbers

_BATCH = 4


@dataclass(frozen=True)
class Sensitivity:
    """One group of operators in int8, everything else in float32.

    Attributes:
        name: of the group; see operator_groups.py.
        operators: how many nodes.
        sqnr_db: signal to quantization noise of the output probability, pooled over pixels,
            in decibels; None where quantizing the group changes nothing.
        mask_iou: IoU with the float network's masks, pooled over pixels, 0..1.
        iou_drop: what the IoU with the ground truth, pooled over pixels, loses, in points.

    Raises:
        InputError: a value that cannot be.
    """

    name: str
    operators: int
    sqnr_db: float | None
    mask_iou: float
    iou_drop: float

    def __post_init__(self) -> None:
        numbers = (self.operators, self.mask_iou, self.iou_drop, self.sqnr_db or 0.0)
        numeric = all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
        if not isinstance(self.name, str) or not numeric or not 0 <= self.mask_iou <= 1:
            raise InputError(f"not a row of a sensitivity: {self}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def measure_sensitivity(
    graph: Graph,
    calibration: Calibration,
    contract: ModelContract,
    data: PreparedData,
    groups: Mapping[str, tuple[str, ...]],
    *,
    known: Mapping[str, Sensitivity] | None = None,
    on_row: Callable[[Sensitivity], None] | None = None,
) -> list[Sensitivity]:
    """One row for each group, the most harmful one first.

    The arithmetic is that of :func:`.int8.quantize_int8` with everything but the group kept
    in float32, simulated by torch (simulation.py).

    Args:
        graph: of primitive operators, float32.
        calibration: of this graph.
        contract: of the weights, at the graph's size.
        data: pictures with masks at that size.
        groups: names -> outputs of nodes.
        known: rows that were measured before, on the same pictures.
        on_row: called with each new row, for progress and for keeping it.

    Raises:
        InputError: no picture, or a calibration of another graph.
    """
    if not len(data):
        raise InputError("no picture to measure the sensitivity on")
    everything = {node.output for node in graph.nodes}
    reference = probabilities(graph, contract, data)
    rows = []
    for name, outputs in groups.items():
        row = (known or {}).get(name)
        if row is None:
            kept = everything.difference(outputs)
            quantized = quantize_int8(graph, calibration, contract, "float32", kept)
            found = probabilities(quantized, contract, data)
            row = _row(name, len(outputs), found, reference, contract, data)
            if on_row:
                on_row(row)
        rows.append(row)
    return ranked(rows)


def ranked(rows: list[Sensitivity]) -> list[Sensitivity]:
    """Most harmful first: least IoU with the float masks, then least signal to noise."""
    return sorted(rows, key=lambda row: (row.mask_iou, row.sqnr_db or math.inf, row.name))


def probabilities(graph: Graph, contract: ModelContract, data: PreparedData) -> NDArray[np.float32]:
    """(N, H, W) float32 of a float or a quantized graph, by torch."""
    found, real = [], in_real_numbers(graph)
    for start in range(0, len(data), _BATCH):
        pixels = contract.normalize(np.asarray(data.images[start : start + _BATCH]))
        found.append(run_graph(real, torch.from_numpy(pixels))[..., 0].numpy())
    return np.concatenate(found)


def table(rows: list[Sensitivity]) -> str:
    """Markdown, in the order given."""
    lines = [
        "| in int8 alone | operators | SQNR dB | mask IoU | IoU drop |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        noise = "-" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
        lines.append(
            f"| {row.name} | {row.operators} | {noise} | {row.mask_iou:.4f} | {row.iou_drop:+.3f} |"
        )
    return "\n".join(lines)


def _row(
    name: str,
    operators: int,
    found: NDArray[np.float32],
    reference: NDArray[np.float32],
    contract: ModelContract,
    data: PreparedData,
) -> Sensitivity:
    noise = float(np.square(found - reference, dtype=np.float64).sum())
    signal = float(np.square(reference, dtype=np.float64).sum())
    masks, float_masks = found >= contract.threshold, reference >= contract.threshold
    truth = np.asarray(data.masks)
    drop = scores(counts(float_masks, truth)).iou - scores(counts(masks, truth)).iou
    return Sensitivity(
        name,
        operators,
        round(10 * math.log10(signal / noise), 3) if noise and signal else None,
        round(mask_iou(masks, float_masks), 6),
        round(100 * drop, 4),
    )
