"""Integer convolutions arranged for ONNX Runtime: groups of pixels, filled lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import static_models
from egeunet.export.graph import Graph
from egeunet.export.group_kernel import group_kernel
from egeunet.export.onnx import emit_onnx
from egeunet.export.onnx.filled_lanes import filled_lanes
from egeunet.export.onnx.pixel_groups import grouped_pixels
from egeunet.export.onnx.quantized import is_integer
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.static_graph import build_static_graph
from onnx_int8 import CONTRACT, pixels, quantized, recorded, run, stored

pytestmark = pytest.mark.xdist_group("onnx-int8")


@settings(deadline=None, max_examples=20)
@given(
    pixels=st.sampled_from([1, 2, 4, 8]), outputs=st.integers(1, 3), inputs=st.integers(1, 3),
    dilation=st.integers(1, 8), seed=st.integers(0, 99),
)  # fmt: skip
def test_groups_of_pixels_are_the_same_convolution(
    pixels: int, outputs: int, inputs: int, dilation: int, seed: int
) -> None:
    dilation = min(dilation, pixels)
    rng = np.random.default_rng(seed)
    kernel = rng.integers(-127, 128, (outputs, 3, 3, inputs)).astype(np.int8)
    x = torch.from_numpy(rng.integers(-9, 9, (1, 10, 16, inputs))).double()

    def convolved(x: torch.Tensor, kernel: Any, columns: int) -> torch.Tensor:
        weight = torch.from_numpy(kernel.transpose(0, 3, 1, 2).copy()).double()
        both = (dilation, columns)
        y = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, padding=both, dilation=both)
        return y.permute(0, 2, 3, 1)

    wide = group_kernel(kernel, pixels, dilation)
    assert wide.dtype == np.int8 and wide.shape == (pixels * outputs, 3, 3, pixels * inputs)
    grouped = x.reshape(1, 10, 16 // pixels, pixels * inputs)
    got = convolved(grouped, wide, 1).reshape(1, 10, 16, outputs)
    assert torch.equal(got, convolved(x, kernel, dilation))


def test_which_convolutions_work_on_groups() -> None:
    graph = grouped_pixels(quantized())
    changed = [node for node in graph.nodes if node.op == "pixel_group_conv2d"]
    assert [node.scope for node in changed] == ["encoder1"] + 4 * ["GAB1"]
    shapes = {node.scope: graph.values[node.inputs[1]].shape for node in changed}
    assert shapes == {"encoder1": (32, 3, 3, 12), "GAB1": (8, 3, 3, 64)}
    reshapes = [node for node in graph.nodes if node.op == "reshape"]
    assert len(reshapes) == 2 + len(changed)  # the bridge's four share their input


def test_lanes_are_filled_in_the_bridges_of_large_maps() -> None:
    before = quantized()
    after = filled_lanes(before)

    def channels(graph: Graph) -> list[int]:
        return [
            graph.values[node.output].shape[3] for node in graph.nodes
            if node.op == "depthwise_conv2d" and node.scope == "GAB2"
        ]  # fmt: skip

    assert channels(before) == [9] * 4 and channels(after) == [16] * 4
    assert after.operators() == before.operators()
    tails = [after.values[n.inputs[1]].shape for n in after.nodes if n.op == "conv2d"]
    assert (16, 1, 1, 64) in tails
    # Only what is added differs from the graph before, which is as it was.
    assert {n: v.shape for n, v in before.values.items()}.items() <= {
        n: v.shape for n, v in quantized().values.items()
    }.items()


def test_no_mask_no_filling() -> None:
    model = static_models.static_network(deep_supervision=False)
    graph = build_static_graph(model, CONTRACT).graph
    integers = quantize_int8(graph, recorded(graph, CONTRACT), CONTRACT, "uint8",
                             onnx_float_outputs(graph))  # fmt: skip
    assert filled_lanes(integers).nodes == integers.nodes
    assert is_integer(integers) and not is_integer(graph)
    assert run(emit_onnx(integers, CONTRACT, "int8"), stored(pixels(1))).dtype == np.uint8
