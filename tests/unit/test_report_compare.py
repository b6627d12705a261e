"""What became worse between two bench reports."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import bench_report as bench
from egeunet.benchmarks.report import compare

_REPORT = bench.report()


@pytest.fixture
def report() -> dict[str, Any]:
    return copy.deepcopy(_REPORT)


def test_a_report_does_not_differ_from_itself(report: dict[str, Any]) -> None:
    result = compare(report, copy.deepcopy(report))
    assert result.changes == () and result.rows_compared == 15
    assert result.text() == "0 regressions in 15 rows compared"


@pytest.mark.parametrize(
    ("path", "value", "kind", "what"),
    [
        ("rows.6.bytes", 324_241, "regression", "bytes"),
        ("rows.6.bytes", 324_239, "improvement", "bytes"),
        ("rows.6.accuracy.iou", 0.76990, "regression", "IoU"),
        ("rows.6.accuracy.iou", 0.77012, None, None),
        ("rows.6.accuracy.mask_iou", 0.9, "regression", "mask IoU"),
        ("rows.6.accuracy", None, "regression", "IoU"),
        ("rows.4.instructions.total", 50_000_000, "regression", "instructions"),
        ("rows.4.instructions.cpu", "cortex-a53", "note", "instructions"),
        ("rows.4.instructions", None, "regression", "instructions"),
        ("rows.6.gates.0.name", "another", "regression", "gate"),
        ("rows.6.latency", None, None, None),
    ],
)
def test_what_became_worse_is_named(
    report: dict[str, Any], path: str, value: object, kind: str | None, what: str | None
) -> None:
    bench.put(report, path, value)
    changes = compare(_REPORT, report).changes
    if kind is None:
        assert changes == ()
    else:
        assert changes[0].kind == kind and changes[0].what == what


def test_latency_is_worse_only_beyond_both_intervals(report: dict[str, Any]) -> None:
    row = report["rows"][6]
    before = _REPORT["rows"][6]["ratio"]
    row["ratio"] = before | {"median": 2 * before["high"], "low": 1.9 * before["high"], "high": 3.0}
    (change,) = compare(_REPORT, report).changes
    assert (change.kind, change.what, change.row) == ("regression", "latency", row["id"])
    assert [c.kind for c in compare(report, _REPORT).changes] == ["improvement"]
    row["latency"]["flags"] = ["throttled"]
    (change,) = compare(_REPORT, report).changes
    assert change.kind == "note" and "not judged: throttled" in change.text
    row["ratio"]["low"] = before["high"]
    assert compare(_REPORT, report).changes == ()


def test_lost_rows_new_failures_and_other_images(report: dict[str, Any]) -> None:
    gone = report["rows"].pop(8)
    report["skipped"].append({"runtime": "onnxruntime", "file": None, "reason": "not installed"})
    gate = report["rows"][2]["gates"][0]
    gate |= {"value": 0.5, "passed": False}
    report["gates_failed"].append({"row": report["rows"][2]["id"], "name": gate["name"]})
    report["data"]["images"] = 31
    report["rows"][2]["accuracy"]["iou"] = 0.1
    result = compare(_REPORT, report)
    assert {(c.what, c.row) for c in result.regressions} == {
        ("row", gone["id"]),
        ("gate", report["rows"][2]["id"]),
    }
    lines = result.text().splitlines()
    assert any(line.endswith("row is gone: not installed") for line in lines)
    assert any("accuracy is not compared" in line for line in lines)
    assert lines[-1] == "2 regressions in 14 rows compared"
    back = compare(report, _REPORT)
    assert back.regressions == ()
    assert ("note", "row", "is new") in {(c.kind, c.what, c.text) for c in back.changes}
