"""How good a real int8 file is: written, run by LiteRT, and scored on pictures with masks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph
from egeunet.export.request import Source
from egeunet.export.runners import Runner, open_runner
from egeunet.export.runners.torch_runner import TorchRunner
from egeunet.model.data.prepared import PreparedData
from egeunet.model.errors import InputError, needs_extra
from egeunet.model.metrics import counts, mask_iou, scores
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.operator_groups import outputs_of
from egeunet.quantize.search import Step

_BATCH = 8


class FileMeasure:
    """Measures files of which the first so many groups of a ranking are in float32.

    Args:
        graph: lean deploy form of ``source``, float32.
        calibration: of it.
        source: the reference; its masks and its IoU are measured once, here.
        data: pictures with masks at the contract's size.
        ranking: names of groups (operator_groups.py), the first to be returned first.

    Raises:
        InputError: no picture, a name that the graph lacks.
    """

    def __init__(
        self,
        graph: Graph,
        calibration: Calibration,
        source: Source,
        data: PreparedData,
        ranking: Sequence[str],
    ) -> None:
        if not len(data):
            raise InputError("no picture to measure a file on")
        self.graph, self.calibration, self.contract = graph, calibration, source.contract
        self.data, self.ranking = data, tuple(ranking)
        outputs_of(graph, self.ranking)  # refuses unknown names before the work
        self.truth = np.asarray(data.masks)
        self.reference = self._masks(TorchRunner.from_model(source.model, source.contract))
        #: Pooled IoU of the reference with the ground truth, 0..1.
        self.float_iou = scores(counts(self.reference, self.truth)).iou

    def __call__(self, groups: int) -> Step:
        """Write the file with the first ``groups`` of the ranking in float32, and measure it."""
        with needs_extra("tflite"):
            from egeunet.export.tflite.emit import emit_tflite
        kept = outputs_of(self.graph, self.ranking[:groups])
        quantized = quantize_int8(self.graph, self.calibration, self.contract, "uint8", kept)
        data = emit_tflite(quantized, self.contract)
        with tempfile.TemporaryDirectory(prefix="egeunet-search-") as folder:
            path = Path(folder) / "candidate.tflite"
            path.write_bytes(data)
            masks = self._masks(open_runner(path))
        iou = scores(counts(masks, self.truth)).iou
        return Step(
            groups,
            len(kept),
            len(data),
            round(100 * (self.float_iou - iou), 4),
            round(mask_iou(masks, self.reference), 6),
        )

    def _masks(self, runner: Runner) -> NDArray[np.bool_]:
        found = [
            runner(np.asarray(self.data.images[start : start + _BATCH]))[..., 0]
            >= self.contract.threshold
            for start in range(0, len(self.data), _BATCH)
        ]
        return np.concatenate(found)
