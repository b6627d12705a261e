"""A search over real files of a small graph: float operators, bytes, and a drop that holds."""

from __future__ import annotations

import numpy as np
import pytest

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.request import Source
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.data.prepared import PreparedData
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.errors import InputError
from egeunet.quantize import file_measure
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.file_measure import FileMeasure
from egeunet.quantize.search import fewest_kept
from egeunet.quantize.sensitivity import probabilities

pytestmark = pytest.mark.xdist_group("tflite")
CONTRACT = ModelContract(32, 32)
IMAGES = np.stack([synthetic_sample(index, 32, 3)[0] for index in range(4)])
WEIGHT = np.array([-12, -6, -3], np.float32)  # dark pixels are lesion,
LOGITS = CONTRACT.normalize(IMAGES) @ WEIGHT
MIDDLE = -np.median(LOGITS, keepdims=True).reshape(1)
# ... which the float graph knows without an error.
DATA = PreparedData(IMAGES, LOGITS + MIDDLE >= 0, ("s0", "s1", "s2", "s3"), ("train",) * 4)


def graph() -> Graph:
    """Two harsh parts, which 8 bits ruin, between mild ones."""
    b = GraphBuilder((1, 32, 32, 3))
    b.scope = "start"
    x = b.conv2d(b.input, WEIGHT.reshape(1, 1, 1, 3), MIDDLE)
    for scope, large in (("harsh", 1500), ("harsher", 3000)):
        b.scope = scope
        x = b.sub(b.add(x, b.constant(np.float32([large]))), b.constant(np.float32([large])))
    b.scope = "end"
    return b.finish(b.elementwise("sigmoid", x))


class _Reference:
    """The float graph in place of the network that it would come from."""

    def __init__(self, of: Graph) -> None:
        self.graph = of

    def __call__(self, images: np.ndarray) -> np.ndarray:
        rows = [id for id, image in zip(DATA.ids, DATA.images, strict=True) if image in images]
        return probabilities(self.graph, CONTRACT, DATA.select(rows))[..., None]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> FileMeasure:
    source = graph()
    monkeypatch.setattr(
        file_measure.TorchRunner, "from_model", classmethod(lambda *_: _Reference(source))
    )
    ranges = calibrate(source, CONTRACT, list(DATA.images), source="", weights_sha256="")
    ranking = ("harsher", "harsh", "start", "end")
    return FileMeasure(source, ranges, Source(EGEUNet(), CONTRACT, "w", "ab"), DATA, ranking)


def test_the_harsh_parts_go_back_to_float_and_no_more(measure: FileMeasure) -> None:
    best, steps = fewest_kept(4, measure, 2.0)
    by_groups = {step.groups: step for step in steps}
    assert best.groups == 2 and best.operators == 4
    assert by_groups[1].iou_drop > 2.0 >= best.iou_drop
    assert by_groups[0].mask_iou < 0.9 < 0.98 < best.mask_iou
    assert by_groups[0].iou_drop == pytest.approx(100 * (1 - by_groups[0].mask_iou), abs=0.1)
    assert by_groups[4].operators == 6 and by_groups[4].iou_drop == pytest.approx(0, abs=0.5)
    assert all(step.bytes > 1000 for step in steps)
    assert measure(2) == best  # the same file, the same numbers


def test_refused(measure: FileMeasure) -> None:
    ranges = Calibration({}, "", 1, "", 32, 32)
    source = Source(EGEUNet(), CONTRACT, "w", "ab")
    with pytest.raises(InputError, match="no operators 'absent' in this graph"):
        FileMeasure(graph(), ranges, source, DATA, ["absent"])
    with pytest.raises(InputError, match="no picture to measure a file on"):
        FileMeasure(graph(), ranges, source, DATA.select([]), [])
