"""Every TFLite lowering in LiteRT, float and int8, with XNNPACK and with the plain kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

import single_operators as single
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.interpret import activations, run_graph
from egeunet.export.tflite.emit import emit_tflite
from egeunet.export.tflite.operators import LOWERINGS
from egeunet.model import ModelContract
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.int8 import quantize_int8

KERNELS = {
    "xnnpack": OpResolverType.AUTO,
    "plain": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}
#: Float: of one operator whose result is of the order of 1, relative to its peak.
FLOAT_TOLERANCE = 2e-5
#: The values of int8 cases: pixels / 255, so that the input itself has no rounding.
CONTRACT = ModelContract()
Case = tuple[tuple[int, int, int, int], Callable[[GraphBuilder], str]]


def _random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape) + 1).normal(size=shape).astype(np.float32)


def _resize(factor: int) -> Case:
    return (1, 2, 3, 3), lambda b: b.resize(b.input, 2 * factor, 3 * factor)


def _concat(parts: int) -> Case:
    """Slices of 1, 2, 3 ... channels, not all of the input, joined in another order."""

    def build(b: GraphBuilder) -> str:
        slices = [b.slice(b.input, n * (n - 1) // 2, n) for n in range(1, parts + 1)]
        return b.concat(slices[::-1])

    return (1, 5, 4, 11), build


def _with_constant(op: str, *shape: int) -> Case:
    return (1, 6, 5, 7), lambda b: getattr(b, op)(b.input, b.constant(_random(*shape)))


def _two(op: str) -> Case:
    """Two activations of one shape, neither of them a constant."""
    return (1, 6, 5, 6), lambda b: getattr(b, op)(b.slice(b.input, 0, 3), b.slice(b.input, 3, 3))


#: What the network needs beyond the operators that all emitters are tested on.
CASES: dict[str, Case] = {
    **single.CASES, **single.DISSOLVED,
    "reshape": ((1, 2, 3, 8), lambda b: b.reshape(b.input, (1, 6, 4, 2))),
    "conv 1x1, one channel out": ((1, 3, 5, 7), single._conv(1, 1)),
    "conv 3x3, odd channels": ((1, 5, 4, 7), single._conv(9, 3)),
    "conv 1x1 of one pixel": ((1, 1, 1, 8), single._conv(4, 1)),
    "depthwise, dilation beyond the map": ((1, 2, 3, 5), single._depthwise(7)),
    "depthwise 1x1": (
        (1, 4, 3, 5), lambda b: b.depthwise_conv2d(b.input, _random(1, 1, 1, 5), _random(5)),
    ),
    "mul, per pixel": _with_constant("mul", 1, 6, 5, 1),
    "add, (1, 1, 1, C)": _with_constant("add", 1, 1, 1, 7),
    "add, (C,)": _with_constant("add", 7),
    "sub, per pixel": _with_constant("sub", 1, 6, 5, 1),
    "add, one shape": _two("add"), "sub, one shape": _two("sub"), "mul, one shape": _two("mul"),
    **{f"resize x{factor}": _resize(factor) for factor in (2, 4, 8, 16, 32)},
    "resize 5 to 8": ((1, 5, 4, 3), lambda b: b.resize(b.input, 8, 7)),
    **{f"concat of {parts}, odd widths": _concat(parts) for parts in (2, 3, 4)},
    "slice to the end": ((1, 3, 4, 7), lambda b: b.slice(b.input, 4, 3)),
    "resize of a constant": (
        (1, 11, 13, 3),
        lambda b: b.mul(b.input, b.resize(b.constant(_random(1, 8, 8, 3)), 11, 13)),
    ),
    "relu": (
        (1, 5, 4, 3), lambda b: b.elementwise("relu", b.sub(b.input, b.constant(_random(3)))),
    ),
    "maximum, (C,)": _with_constant("maximum", 7), "maximum, one shape": _two("maximum"),
}  # fmt: skip


def finished(case: Case) -> Graph:
    shape, build = case
    builder = GraphBuilder(shape)
    return builder.finish(build(builder))


def run(data: bytes, image_nhwc: Any, kernels: str) -> tuple[Any, Any]:
    """Output of one run, and its quantization parameters."""
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=KERNELS[kernels]
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image_nhwc)
    interpreter.invoke()
    (detail,) = interpreter.get_output_details()
    return interpreter.get_tensor(detail["index"]), detail["quantization_parameters"]


def assert_float(graph: Graph, what: str) -> None:
    image = _random(*graph.values[graph.input].shape)
    want = run_graph(graph, torch.from_numpy(image)).numpy()
    data = emit_tflite(graph, CONTRACT)
    for kernels in KERNELS:
        got, _ = run(data, image, kernels)
        assert got.shape == want.shape and got.dtype == np.float32, (what, kernels)
        difference = np.abs(got - want)
        assert difference.max() <= FLOAT_TOLERANCE * max(1.0, np.abs(want).max()), (
            f"{what}, {kernels}: max {difference.max()}, mean {difference.mean()}"
        )


@pytest.mark.parametrize("name", CASES)
def test_float(name: str) -> None:
    assert_float(finished(CASES[name]), name)


@settings(deadline=None, max_examples=15)
@given(sides=st.tuples(*[st.integers(1, 13)] * 4), channels=st.integers(1, 7))
def test_any_resize(sides: tuple[int, int, int, int], channels: int) -> None:
    case = (1, sides[0], sides[1], channels), lambda b: b.resize(b.input, sides[2], sides[3])
    graph = finished(case)
    if graph.nodes:  # a resize to the same size is no operator
        assert_float(graph, f"{sides}")


def test_every_lowering_is_covered() -> None:
    used = {node.op for case in CASES.values() for node in finished(case).nodes}
    # quantize/ adds lowerings of its own, tested there, and other names for these.
    own = {low for low in LOWERINGS.values() if low.__module__.startswith("egeunet.export")}
    # What only int8.py makes: see test_int8_choices.py.
    assert own == {LOWERINGS[op] for op in used | {"quantize", "dequantize", "fully_connected"}}


def signed(case: Case) -> Case:
    """The case on values of -1..1, which int8 holds exactly: 2 x - 256/255, where x is
    pixels / 255, is 2/255 (pixel - 128)."""
    shape, build = case
    two = np.full((1, 1, 1, shape[3]), 2, np.float32)
    shift = np.full(shape[3], -256 / 255, np.float32)

    def built(b: GraphBuilder) -> str:
        image, b.input = b.input, b.depthwise_conv2d(b.input, two, shift)
        try:
            return build(b)
        finally:
            b.input = image

    return shape, built


def int8_form(case: Case, image: Any) -> tuple[Graph, Graph]:
    """The float graph, and its int8 form with ranges seen on ``image``."""
    shape, build = signed(case)
    builder = GraphBuilder(shape)
    graph = builder.finish(build(builder))
    closing = GraphBuilder(shape)  # a network ends in a sigmoid, whose output scale is fixed
    closing.nodes, closing.values = list(graph.nodes), dict(graph.values)
    closed = closing.finish(closing.elementwise("sigmoid", graph.output))
    ranges = {n: (float(x.min()), float(x.max())) for n, x in activations(closed, image)}
    ranges[closed.nodes[0].output] = (-256 / 255, 254 / 255)
    calibration = Calibration(ranges, "random", 1, "", 32, 32)
    kept = [node.output for node in closed.nodes if node.scope.endswith("/group_norm")]
    quantized = quantize_int8(closed, calibration, CONTRACT, "int8", kept)
    *nodes, last = quantized.nodes
    assert last.op == "sigmoid"
    return graph, Graph(quantized.input, last.inputs[0], nodes, quantized.values)


#: Largest difference from float in units of the output's scale: 0.5 for the output's own
#: rounding, the rest for 8-bit weights or operands and LiteRT's fixed-point factors.
STEPS = 1.5
#: Seven integer operators in a row, each with its rounding.
LAYER_NORM_STEPS = 4
#: A LOGISTIC has one possible output scale, so it cannot be joined with anything else.
NOT_IN_INT8 = ("concat, unequal widths", "sigmoid")


def coarseness(quantized: Graph) -> float:
    """What folding gamma costs: beta / gamma of a small gamma sets the step of all channels.
    That step times the largest gamma, in units of the output's scale; at least 1."""
    last = quantized.nodes[-1]
    x, weight, y = (quantized.values[n] for n in (*last.inputs[:2], last.output))
    scales = [value.quantization.scale for value in (x, weight, y)]  # type: ignore[union-attr]
    return max(1.0, float(scales[0][0] * 127 * scales[1].max() / scales[2][0]))


def allowed_steps(name: str, kernels: str, graph: Graph, quantized: Graph) -> float:
    steps: float = STEPS
    if name.startswith("layer_norm"):
        steps = LAYER_NORM_STEPS * coarseness(quantized)
    if name.startswith("resize") and kernels == "plain":
        # Positions are multiples of a ratio of 10 fractional bits: an output pixel i is off
        # by i / 2048 of a pixel, along each axis. Neighbours differ by 255 steps at most.
        height, width = graph.values[graph.output].shape[1:3]
        steps += 255 * (height - 1 + width - 1) / 2048
    return steps


IN_INT8 = [name for name in CASES if name not in NOT_IN_INT8]


@pytest.mark.parametrize("name", IN_INT8)
def test_int8(name: str) -> None:
    shape, _ = CASES[name]
    pixels = np.random.default_rng(4).integers(0, 256, shape)
    image = torch.from_numpy((pixels / 255).astype(np.float32))
    graph, quantized = int8_form(CASES[name], image)
    want = run_graph(graph, image).numpy()
    data = emit_tflite(quantized, CONTRACT)
    for kernels in KERNELS:
        got, parameters = run(data, (pixels - 128).astype(np.int8), kernels)
        assert got.dtype == np.int8 and got.shape == want.shape, (name, kernels)
        (scale,), (zero_point,) = parameters["scales"], parameters["zero_points"]
        steps = np.abs((got.astype(np.float64) - zero_point) - want / scale)
        print(f"{name:32} {kernels:8} max {steps.max():.3f} mean {steps.mean():.3f} steps")
        assert steps.max() <= allowed_steps(name, kernels, graph, quantized), (
            f"{name}, {kernels}: max {steps.max()}, mean {steps.mean()} steps of {scale}"
        )


def test_what_has_its_default_takes_no_bytes() -> None:
    """Options of operators that have none, and the code of the most frequent operator."""
    from ai_edge_litert import schema_py_generated as schema

    b = GraphBuilder((1, 4, 4, 2))
    x = b.elementwise("gelu", b.input)
    for _ in range(3):
        x = b.mul(x, b.constant(np.array([2, 3], np.float32)))
    data = emit_tflite(b.finish(b.add(x, b.input)), CONTRACT, "none")
    model = schema.Model.GetRootAs(data)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    codes = [model.OperatorCodes(one.OpcodeIndex()).BuiltinCode() for one in operators]
    builtin = schema.BuiltinOperator
    assert codes == [builtin.GELU, builtin.MUL, builtin.MUL, builtin.MUL, builtin.ADD]
    assert [one.OpcodeIndex() for one in operators] == [1, 0, 0, 0, 2]
    assert all(one.BuiltinOptionsType() == 0 and one.BuiltinOptions() is None for one in operators)


def test_a_float_depthwise_convolution_gets_a_bias() -> None:
    """Without one LiteRT 2.3 crashes on ARM64."""
    b = GraphBuilder((1, 4, 4, 2))
    inputs = b.input, b.constant(_random(1, 3, 3, 2))
    graph = b.finish(b.add_node("depthwise_conv2d", inputs, (1, 4, 4, 2), dilation=1))
    interpreter = Interpreter(model_content=emit_tflite(graph, CONTRACT, "none"))
    (operator,) = interpreter._get_ops_details()[:1]
    assert len(operator["inputs"]) == 3
    assert_float(graph, "no bias")
