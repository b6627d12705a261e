"""From measured values to verdicts, and what failed ones do."""

from __future__ import annotations

from typing import Any

import pytest

from egeunet.benchmarks.gates import bench_gates, verdicts
from egeunet.benchmarks.outputs import require_gates
from egeunet.export.check import gates_of
from egeunet.export.registry import formats
from egeunet.model.errors import GateError

GOOD = {
    "mask_agreement": 1.0,
    "mask_iou": 1.0,
    "max_abs_diff": 0.0,
    "mean_abs_diff": 0.0,
    "iou_drop_points": 0.0,
    "new_constant_masks": 0,
    "non_finite": 0,
}
BAD = {
    "mask_agreement": 0.5,
    "mask_iou": 0.5,
    "max_abs_diff": 1.0,
    "mean_abs_diff": 0.5,
    "iou_drop_points": 30.0,
    "new_constant_masks": 1,
    "non_finite": 1,
}


@pytest.mark.parametrize("precision", [name for name in bench_gates() if name != "every"])
def test_every_gate_can_pass_and_can_fail(precision: str) -> None:
    passed = verdicts(precision, GOOD)
    failed = verdicts(precision, BAD)
    names = {*bench_gates()["every"], *bench_gates()[precision]}
    assert {each.name for each in passed} == names and len(names) > 2
    assert all(each.passed for each in passed)
    assert not any(each.passed for each in failed)
    assert all(len(each.reason) > 25 for each in passed)


def test_every_precision_that_can_be_exported_has_gates_here_and_there() -> None:
    for kind in formats().values():
        for precision in kind.precisions:
            assert gates_of(precision) and bench_gates()[precision]


def test_a_limit_itself_passes_and_a_step_beyond_it_does_not() -> None:
    limit = bench_gates()["int8"]["mask_iou"]["limit"]
    for value, passes in ((limit, True), (limit - 1e-9, False)):
        found = {v.name: v for v in verdicts("int8", GOOD | {"mask_iou": value})}
        assert found["mask_iou"].passed is passes
        assert (found["mask_iou"].kind, found["iou_drop_points"].kind) == ("min", "max")


def test_what_could_not_be_measured_passes_no_gate() -> None:
    for value in (None, float("nan"), float("inf")):
        found = {v.name: v for v in verdicts("float32", GOOD | {"max_abs_diff": value})}
        assert not found["max_abs_diff"].passed and found["max_abs_diff"].value is None


def test_an_unknown_precision_has_only_the_gates_that_always_hold() -> None:
    for precision in (None, "int3"):
        names = {each.name for each in verdicts(precision, BAD)}
        assert names == {"non_finite", "new_constant_masks"}


def test_made_up_truth_judges_nobody() -> None:
    names = {each.name for each in verdicts("int8", GOOD, synthetic=True)}
    assert "iou_drop_points" not in names and "mask_iou" in names


def test_made_up_images_have_limits_of_their_own() -> None:
    gate = bench_gates()["int8"]["mask_iou"]
    between = GOOD | {"mask_iou": (gate["limit"] + gate["synthetic"]) / 2}
    for synthetic in (True, False):
        found = {v.name: v for v in verdicts("int8", between, synthetic=synthetic)}["mask_iou"]
        assert found.passed is synthetic
        assert found.limit == gate["synthetic" if synthetic else "limit"]


def report(rows: int, reasons: tuple[str, ...] = ()) -> dict[str, Any]:
    """Rows that fail one gate each."""
    gate = {"name": "mask_iou", "value": 0.5, "limit": 0.9, "passed": False}
    return {
        "rows": [{"id": f"f{i}|torch|1", "gates": [gate]} for i in range(rows)],
        "gates_failed": [{"row": f"f{i}|torch|1", "name": "mask_iou"} for i in range(rows)],
        "skipped": [{"runtime": "export gate", "file": "f", "reason": r} for r in reasons],
    }


def test_failed_gates_end_the_command_by_name() -> None:
    require_gates(report(0))
    with pytest.raises(GateError, match=r"f1\|torch\|1 mask_iou 0\.5 \(gate 0\.9\)"):
        require_gates(report(2))
    with pytest.raises(GateError, match="and 3 more"):
        require_gates(report(9))
    with pytest.raises(GateError, match="the file was not kept"):
        require_gates(report(0, ("x is not as good as the reference; the file was not kept",)))
