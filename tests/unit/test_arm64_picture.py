"""The profile's tables and picture, from a report as counting gives it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from egeunet.benchmarks.arm64.operators import BETWEEN
from egeunet.benchmarks.arm64.picture import profile_png
from egeunet.benchmarks.arm64.report import NOTE, kernels_text, operators_text, summary
from egeunet.model.errors import InputError


def _report(operators: bool) -> dict[str, Any]:
    kernels = [
        {"symbol": f"xnn_kernel_{i}<$broken_math$>", "file": "lib.so", "instructions": 1000 - i}
        for i in range(20)
    ]
    rows = [
        {"name": f"{i} {'CONV_2D' if i % 3 else 'ADD'} 1x8", "instructions": i, "kernel": "k"}
        for i in range(30)
    ]
    rows.append({"name": BETWEEN, "instructions": 5, "kernel": ""})
    return {
        "file": "a_$x$_b.tflite", "bytes": 10, "cpu": "cortex-a76", "runtime": "ai-edge-litert 1",
        "instructions": sum(row["instructions"] for row in kernels), "note": NOTE,
        "shares": {"dot_product": 0.25, "simd": 0.5, "load_store": 0.125, "other": 0.125},
        "kernels": kernels, "operators": rows if operators else [],
        "operators_left_out": ["1 MUL 1x8"],
    }  # fmt: skip


@pytest.mark.parametrize("operators", [False, True])
def test_the_picture_is_a_drawn_png(operators: bool) -> None:
    data = profile_png(_report(operators))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG" and picture.width == 1200
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert (0x44, 0x77, 0xAA) in colours  # the bars of the kernels
    assert ((0x1F, 0x77, 0xB4) in colours) is operators  # those of the operators


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(InputError, match="nothing was counted"):
        profile_png({"kernels": []})


def test_the_summary_says_what_it_is_not() -> None:
    text = summary(_report(False))
    assert "0.02 M instructions (19,810) a_$x$_b.tflite" in text
    assert "dot product 25.0%, simd 50.0%, load store 12.5%" in text
    assert "instructions, not time" in text


def test_tables_account_for_everything() -> None:
    report = _report(True)
    lines = kernels_text(report, 3).splitlines()
    assert [int(line.split()[0].replace(",", "")) for line in lines[1:]] == [1000, 999, 998, 16813]
    assert lines[-1].endswith("17 other functions")
    assert "1 operators are fused or do nothing here" in operators_text(report)
    assert operators_text(_report(False)).startswith("no operators to tell apart in ai-edge")
