"""The bench report: its schema, Markdown, and any report that the schema lets through."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bench_report as bench
from egeunet.benchmarks.report import (
    check_report,
    compare,
    html,
    load_report,
    markdown,
)
from egeunet.benchmarks.report.axis import Axis
from egeunet.benchmarks.report.standings import Standings, pareto
from egeunet.model.errors import InputError

_REPORT = bench.report()


@pytest.fixture
def report() -> dict[str, Any]:
    return copy.deepcopy(_REPORT)


def test_a_report_survives_the_file(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(report))
    assert load_report(path) == report


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schema_version": 2, "rows": NaN}', "NaN is no JSON number"),
        (b"[]", "not a report of egeunet-bench"),
        (b'{"schema_version": 1, "model": {}}', "not a report of egeunet-bench"),
        (b'{"schema_version": 1, "rows": []}', "schema_version 1, .* measure again"),
        (b'{"schema_version": 3, "rows": []}', "schema_version 3, .* update egeunet-mobile"),
        (b'{"schema_version": true, "rows": []}', "schema_version True"),
        (b'{"schema_version": 2, "rows": [], "tool": "x"}', "tool is 'x'"),
        (b'{"schema_version": 2, "rows": [], "tool": "egeunet-bench"}', "created is missing"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=said) as caught:
        load_report(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        load_report(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("rows", [], "rows has 0 entries"),
        ("rows.3.bytes", -1, r"rows\[3\].bytes is -1"),
        ("rows.3.bytes", True, r"rows\[3\].bytes is True"),
        ("rows.3.bytes", 49_872.5, r"rows\[3\].bytes is 49872.5, expected a whole number"),
        ("rows.3.accuracy.iou", 1.5, r"rows\[3\].accuracy.iou is 1.5"),
        ("rows.3.accuracy.iou", float("nan"), r"accuracy.iou is nan"),
        ("rows.3.accuracy.iou", 10**400, r"accuracy.iou is 1000"),
        ("rows.2.latency.samples_ms", [1.0, "2"], r"samples_ms\[1\] is '2'"),
        ("rows.2.gates.0.kind", "minimum", r"gates\[0\].kind is 'minimum', expected one of"),
        ("rows.2.gates.0.value", 0.1, "gate mask_iou says passed: True, but is not so"),
        ("rows.2.gates.0.value", None, "gate mask_iou says passed: True, but is not so"),
        ("rows.2.within_target", False, r"rows\[2\].within_target is False at 49872 bytes"),
        ("rows.2.ratio.baseline", "x", "baseline is 'x', which is no row"),
        ("rows.1.id", _REPORT["rows"][0]["id"], "two rows have the id"),
        ("gates_failed", [], "gates_failed does not name the failed gates"),
        ("pictures.0.row", "x", "which is no row"),
        ("pictures.0.png_base64", 'x" onerror="', "not a PNG in base64"),
        ("pictures.0.png_base64", base64.b64encode(b"<svg>").decode(), "not a PNG in base64"),
    ],
)
def test_wrong_and_contradictory_values_are_named(
    report: dict[str, Any], path: str, value: object, said: str
) -> None:
    bench.put(report, path, value)
    for use in (check_report, html, markdown, lambda r: compare(r, _REPORT)):
        with pytest.raises(InputError, match=said) as caught:
            use(report)
        assert len(str(caught.value)) < 300


def test_markdown_is_one_table_whatever_the_names_are(report: dict[str, Any]) -> None:
    text = markdown(report)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(report["rows"])
    unescaped = [len(line.replace(r"\|", "").split("|")) for line in table]
    assert set(unescaped) == {unescaped[0]}
    assert r"\<script\>alert(1)\</script\>.tflite" in text and "<script>" not in text
    row = "| egeunet_int8.tflite | litert-xnnpack | 1 | 49,872 | 42,889 | met | 76.82 | +0.19 |"
    assert row in text
    assert "**Synthetic images: says nothing about real ones.**" in text
    assert "needs ≥ 0.98. Borders move by a pixel." in text
    assert "M instr." in table[0]
    report["rows"] = [row for row in report["rows"] if row["threads"] == 1]
    for row in report["rows"]:
        row["instructions"] = None
    report["gates_failed"] = [e for e in report["gates_failed"] if e["row"].endswith("|1")]
    head = markdown(report).splitlines()[0]
    assert "M instr." not in head and "threads" not in head


def test_the_best_are_chosen_among_those_that_pass(report: dict[str, Any]) -> None:
    best = Standings.of(report)
    assert (
        best.smallest is not None and best.smallest["id"] == "egeunet_int8.tflite|litert-xnnpack|1"
    )
    assert best.fastest is not None and best.fastest["threads"] == 2
    assert best.most_accurate is not None
    assert best.most_accurate["file"] == "egeunet_float32.onnx", "the smallest of equal ones"
    for row in report["rows"]:
        row["gates"] = []
    assert Standings.of(report) == Standings(None, None, None, 0)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(0, 1e15), min_size=1, max_size=5), log=st.booleans())
@example(values=[0.0, 1.5e-160], log=False)
def test_axes_hold_every_value(values: list[float], log: bool) -> None:
    axis = Axis.around(values, log=log)
    places = [axis.percent(value) for value in values]
    assert all(0 <= place <= 100 for place in places)
    if len(set(values)) > 1 and (not log or min(values) > 1e-6):
        assert places[values.index(min(values))] < places[values.index(max(values))]
    ticks = axis.ticks()
    assert len(ticks) <= 9 and all(axis.low <= tick <= axis.high for tick in ticks)
    assert list(ticks) == sorted(set(ticks))


_NASTY = st.text(max_size=12) | st.sampled_from(["</style>", "]]>", "\x00", "\udcff", "--><b>"])
_TIME = st.floats(0, 1e15, allow_subnormal=True)


@settings(deadline=None, max_examples=25)
@given(
    name=_NASTY, times=st.lists(_TIME, max_size=6), median=_TIME, iou=st.floats(0, 1),
    size=st.integers(0, 10**15), counts=st.lists(st.integers(0, 10**14), max_size=3),
)  # fmt: skip
def test_every_report_of_the_schema_can_be_shown(
    name: str, times: list[float], median: float, iou: float, size: int, counts: list[int]
) -> None:
    report = _REPORT | {"pictures": [], "environment": {name: {name: [name]}}}
    row = copy.deepcopy(_REPORT["rows"][6]) | {"file": name, "runtime": name, "precision": name}
    row |= {"bytes": size, "within_target": size <= report["target_bytes"]}
    row["latency"] |= {"median_ms": median, "samples_ms": times, "p90_ms": None}
    row["accuracy"]["iou"] = iou
    row["instructions"] = {
        "cpu": name, "total": sum(counts), "shares": {name: iou},
        "kernels": [{"symbol": name, "instructions": count} for count in counts],
        "operators": [{"name": name, "instructions": count} for count in counts],
    }  # fmt: skip
    row["where"] = {
        "tensor": name,
        "layer": name,
        "max_abs_diff": median,
        "compared": 1,
        "table": [{name: name}],
    }
    report["rows"] = [*report["rows"][:6], row]
    report["gates_failed"] = []
    for text in (html(report), markdown(report), compare(_REPORT, report).text()):
        assert text.encode() and "\x00" not in text


def test_nothing_lies_above_the_front() -> None:
    generator = np.random.default_rng(1)
    points = [tuple(point) for point in generator.integers(0, 9, (40, 2)).tolist()]
    front = [points[i] for i in pareto(points)]
    assert front == sorted(front) and len(set(front)) == len(front)
    for cost, value in points:
        assert any(c <= cost and v >= value for c, v in front)
