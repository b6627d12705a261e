"""From the order of the graph and the kernels that ran to instructions per operator."""

from __future__ import annotations

from typing import Any

import pytest

from egeunet.benchmarks.arm64.counts import Interval, Mix, Part
from egeunet.benchmarks.arm64.emulator import Cut
from egeunet.benchmarks.arm64.kernel_profile import AddressMap
from egeunet.benchmarks.arm64.matching import assign, kernels_in
from egeunet.benchmarks.arm64.operators import BETWEEN, OperatorRow, operator_table
from egeunet.benchmarks.arm64.plan import Operator, execution_plan


def _node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"name": name, "inputs": inputs, "outputs": outputs, "shape": [1, 4, 4, 8]}


#: Two branches; 3 GELU is LiteRT's own, so 4 runs before it and 5 after it.
GRAPH = [
    _node("CONV_2D", [0, 90, 91], [1]),
    _node("DEQUANTIZE", [1], [2]),
    _node("RSQRT", [2], [3]),
    _node("GELU", [3], [4]),
    _node("SPLIT", [92, 1], [5, 6]),
    _node("CONCATENATION", [4, 5, 6], [7]),
    _node("DELEGATE", [0, 90, 91, 92], [3, 5, 6]),
    _node("DELEGATE", [4, 5, 6], [7]),
]


def test_the_plan_is_by_partition_not_by_place_in_the_file() -> None:
    plan = execution_plan(GRAPH)
    assert plan is not None
    found = [(step.delegated, [operator.index for operator in step.operators]) for step in plan]
    assert found == [(True, [0, 1, 2, 4]), (False, [3]), (True, [5])]


def test_a_plan_that_is_not_litert_s_is_none() -> None:
    assert execution_plan([*GRAPH[:-2], GRAPH[-1], GRAPH[-2]]) is None  # the later one first


def test_a_graph_that_waits_for_ever_is_none() -> None:
    assert execution_plan([_node("ADD", [2], [1]), _node("ADD", [1], [2])]) is None


def _operators(*kinds: str) -> tuple[Operator, ...]:
    return tuple(Operator(i, kind, (1,), (2, 3), (1,)) for i, kind in enumerate(kinds))


@pytest.mark.parametrize(
    ("runs", "kinds", "owners"),
    [
        (["xnn_f32_gemm_ukernel"], ["CONV_2D"], [0]),
        # A square is taken in by the mean; a table by the operator in the middle.
        (["xnn_f32_rdsum2_ukernel"], ["MUL", "MEAN"], [1]),
        (["xnn_x8_lut_ukernel"], ["DEQUANTIZE", "RSQRT", "ADD"], [1]),
        # A float ReLU is a run of its own behind the operator that has it in the file.
        (["xnn_f32_vadd_ukernel__u8", "xnn_f32_vclamp_ukernel__u16"], ["ADD", "MUL"], [0, 0]),
        # A copy for each output of a SPLIT.
        (["memcpy", "memcpy", "xnn_f32_vadd_ukernel"], ["SPLIT", "ADD"], [0, 0, 1]),
        # Something that no operator can have run.
        (["xnn_f32_gemm_ukernel", "xnn_odd_ukernel"], ["CONV_2D"], [0, None]),
        (["xnn_f32_vmulc_ukernel", "xnn_f32_vadd_ukernel"], ["ADD", "MUL", "ADD"], [1, 2]),
        (["xnn_f32_vhswish_ukernel"], ["HARD_SWISH"], [None]),
        ([], ["RESHAPE"], []),
        (["", "xnn_f32_vadd_ukernel", ""], ["RESHAPE", "ADD", "SQUEEZE"], [0, 1, 2]),
        ([""], ["ADD"], [None]),
    ],
)
def test_runs_go_to_operators_in_order(
    runs: list[str], kinds: list[str], owners: list[int | None]
) -> None:
    assert assign(runs, _operators(*kinds)) == owners


def test_kernels_of_a_run() -> None:
    names = ["memcpy", "xnn_compute_gemm", "xnn_f32_gemm_ukernel", "xnn_xx_copy_ukernel"]
    assert kernels_in(names) == "xnn_f32_gemm_ukernel"
    assert kernels_in(["xnn_compute", "__GI_memcpy"]) == "__GI_memcpy"
    assert kernels_in(["main"]) == ""


class _Names(AddressMap):
    """Addresses that name their functions."""

    NAMES = (
        "loop", "_ZN6tflite7xnnpack14SubgraphInvoke", "xnn_run_operator_with_index",
        "xnn_qs8_gemm_ukernel", "xnn_x8_lut_ukernel", "memcpy", "_ZN6tflite3ops8GeluEval",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__([], None)  # type: ignore[arg-type]

    def function_at(self, address: int) -> tuple[str, str]:
        return "lib.so", self.NAMES[address]


def _part(opened_by: int, **counts: int) -> Part:
    names = {"loop": 0, "invoke": 1, "run": 2, "gemm": 3, "lut": 4, "copy": 5, "gelu": 6}
    return Part(opened_by, {names[name]: Mix(other=n) for name, n in counts.items()})


_LOOP, _RUN = 0, 2
_PARTS = [
    _part(0, loop=3),
    _part(_LOOP, loop=1, invoke=4),
    _part(_RUN, run=5, gemm=1000),
    _part(_RUN, run=5, lut=100),
    _part(_RUN, run=5, copy=20),
    _part(_RUN, run=5, copy=21),
    _part(_LOOP, loop=2, gelu=300),
    _part(_LOOP, loop=1, invoke=4),
    *[_part(_RUN, run=5, copy=30)] * 3,
    _part(_LOOP, loop=9),
]


def test_every_instruction_is_in_one_row() -> None:
    table = operator_table(Interval(parts=_PARTS), GRAPH, _Names(), Cut(_RUN, 0, 1))
    assert table.rows == [
        OperatorRow("0 CONV_2D 1x4x4x8", 1005, "xnn_qs8_gemm_ukernel", 1),
        OperatorRow("2 RSQRT 1x4x4x8", 105, "xnn_x8_lut_ukernel", 1),
        OperatorRow("4 SPLIT 1x4x4x8", 51, "memcpy", 2),
        OperatorRow("3 GELU 1x4x4x8", 302, "_ZN6tflite3ops8GeluEval", 0),
        OperatorRow("5 CONCATENATION 1x4x4x8", 105, "memcpy", 3),
        OperatorRow(BETWEEN, 22, "", 0),
    ]
    assert (table.left_out, table.unnamed) == (["1 DEQUANTIZE 1x4x4x8"], 0)
    assert sum(row.instructions for row in table.rows) == sum(p.instructions for p in _PARTS)


def test_what_does_not_fit_stays_without_a_name() -> None:
    table = operator_table(Interval(parts=_PARTS), GRAPH[:-1], _Names(), Cut(_RUN, 0, 1))
    assert {row.name for row in table.rows} == {"not told apart", BETWEEN}
    assert table.unnamed == 8
    assert sum(row.instructions for row in table.rows) == sum(p.instructions for p in _PARTS)
