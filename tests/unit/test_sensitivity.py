"""Sensitivity: the harmful part comes first, rows are kept, files are read back or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.model import ModelContract
from egeunet.model.data.prepared import PreparedData
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.operator_groups import operator_groups
from egeunet.quantize.sensitivity import (
    Sensitivity,
    measure_sensitivity,
    probabilities,
    ranked,
    table,
)
from egeunet.quantize.sensitivity_picture import sensitivity_png
from egeunet.quantize.sensitivity_report import SensitivityReport

CONTRACT = ModelContract(32, 32)
PAIRS = [synthetic_sample(index, 32, 3) for index in range(6)]
DATA = PreparedData(
    np.stack([image for image, _ in PAIRS]),
    np.stack([mask for _, mask in PAIRS]),
    tuple(f"s{index}" for index in range(6)),
    ("train",) * 6,
)
ROWS = [
    Sensitivity("a", 3, 20.5, 0.9, -0.25),
    Sensitivity("b/norm", 1, 60.0, 0.99, 0.5),
    Sensitivity("c", 2, None, 1.0, 0.0),
]
REPORT = SensitivityReport("ab", "cd", "ef", "6 synthetic", 6, "01", tuple(ROWS))
WEIGHT = np.array([-12, -6, -3], np.float32)  # dark pixels are lesion
MIDDLE = -np.median(CONTRACT.normalize(DATA.images) @ WEIGHT, keepdims=True).reshape(1)


def graph() -> Graph:
    """ "harsh" adds and takes away a large number,
    between which 8 bits lose what counts; "moves" only moves values."""
    b = GraphBuilder((1, 32, 32, 3))
    b.scope = "mild"
    x = b.conv2d(b.input, WEIGHT.reshape(1, 1, 1, 3), MIDDLE)
    b.scope = "harsh"
    x = b.add(x, b.constant(np.array([2000], np.float32)))
    x = b.sub(x, b.constant(np.array([2000], np.float32)))
    b.scope = "moves"
    x = b.slice(x, 0, 1)
    b.scope = "end"
    return b.finish(b.elementwise("sigmoid", x))


def calibrated(of: Graph) -> Calibration:
    return calibrate(of, CONTRACT, list(DATA.images), source="", weights_sha256="ab")


def test_the_harmful_group_comes_first_and_its_numbers_say_so() -> None:
    source = graph()
    seen: list[str] = []
    rows = measure_sensitivity(
        source, calibrated(source), CONTRACT, DATA, operator_groups(source),
        on_row=lambda row: seen.append(row.name),
    )  # fmt: skip
    assert seen == ["mild", "harsh", "moves", "end"] and rows[0].name == "harsh"
    by_name = {row.name: row for row in rows}
    harsh, mild = by_name["harsh"], by_name["mild"]
    assert harsh.sqnr_db is not None and mild.sqnr_db is not None
    assert harsh.sqnr_db < 15 < 30 < mild.sqnr_db
    assert harsh.mask_iou < 0.9 < 0.98 < mild.mask_iou
    assert [row.operators for row in rows if row.name == "harsh"] == [2]
    exact = probabilities(source, CONTRACT, DATA) >= 0.5
    assert 0.4 < exact.mean() < 0.6  # there is something to lose


def test_single_operators_and_rows_that_are_known() -> None:
    source = graph()
    groups = operator_groups(source, "operator", ["mild", "end"])
    assert len(groups) == 2
    known = {name: Sensitivity(name, 1, 1.0, 0.5, 9.0) for name in list(groups)[:1]}
    seen: list[str] = []
    rows = measure_sensitivity(
        source, calibrated(source), CONTRACT, DATA, groups, known=known,
        on_row=lambda row: seen.append(row.name),
    )  # fmt: skip
    assert seen == list(groups)[1:] and rows[0] == known[next(iter(groups))]


def test_batches_give_what_single_images_give() -> None:
    source = graph()
    alone = [probabilities(source, CONTRACT, DATA.select([id])) for id in DATA.ids]
    assert np.abs(np.concatenate(alone) - probabilities(source, CONTRACT, DATA)).max() < 1e-6


def test_no_picture_is_refused() -> None:
    source = graph()
    with pytest.raises(InputError, match="no picture to measure the sensitivity on"):
        measure_sensitivity(source, calibrated(source), CONTRACT, DATA.select([]), {})


def test_ranking_and_table() -> None:
    assert ranked([ROWS[2], ROWS[1], ROWS[0]]) == ROWS
    tied = [replace(ROWS[0], name="x", sqnr_db=None), replace(ROWS[0], name="y")]
    assert [row.name for row in ranked(tied)] == ["y", "x"]
    assert table(ROWS).splitlines()[2:] == [
        "| a | 3 | 20.5 | 0.9000 | -0.250 |",
        "| b/norm | 1 | 60.0 | 0.9900 | +0.500 |",
        "| c | 2 | - | 1.0000 | +0.000 |",
    ]


def test_a_report_comes_back_and_knows_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    REPORT.save(path)
    assert SensitivityReport.load(path) == REPORT
    assert REPORT.same_origin(replace(REPORT, rows=()))
    for changes in ({"weights_sha256": "x"}, {"ids_sha256": "x"}, {"calibration_sha256": "x"}):
        assert not REPORT.same_origin(replace(REPORT, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "egeunet calibration"}, {"schema_version": 9}, {"rows": 3}, {"more": 1},
        {"rows": [{"name": "a"}]}, {"images": 0}, {"data": None},
        {"rows": [{**ROWS[0].to_dict(), "mask_iou": 1.5}]},
        {"rows": [{**ROWS[0].to_dict(), "iou_drop": float("nan")}]},
        {"rows": [{**ROWS[0].to_dict(), "sqnr_db": "loud"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_report_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({**REPORT.to_dict(), **changes}))
    with pytest.raises(InputError, match=r"s\.json: not a sensitivity of egeunet-quantize"):
        SensitivityReport.load(path)


def test_the_picture_shows_the_rows(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 3, 60):
        rows = [replace(ROWS[0], name=f"scope{index}") for index in range(count)]
        (tmp_path / "p.png").write_bytes(sensitivity_png(rows, "three $ parts"))
        with Image.open(tmp_path / "p.png") as picture:
            sizes.append(picture.size)
            pixels = np.asarray(picture.convert("RGB"))
        blue = (pixels == (0x44, 0x77, 0xAA)).all(2).any(1)
        assert np.diff(blue.astype(int)).clip(min=0).sum() == min(count, 40)  # bars, top down
    assert {width for width, _ in sizes} == {1200} and sizes[0][1] < sizes[1][1] < sizes[2][1]
    with pytest.raises(InputError, match="no operator was measured"):
        sensitivity_png([], "")
