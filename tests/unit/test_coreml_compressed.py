"""Core ML packages with weights in 8, 6 and 4 bits: the bits, the program, the network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.export import export
from egeunet.export.coreml import emit_coreml, run_package
from egeunet.export.coreml.compression import COMPRESSIONS, linear, packed, palettized, unpacked
from egeunet.export.coreml.package import Package
from egeunet.export.deploy import build_deploy_graph
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.interpret import run_graph
from egeunet.export.provenance import tree_bytes
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.errors import InputError
from egeunet.model.packaged import shipped_weights

pytestmark = pytest.mark.xdist_group("coreml")
CONTRACT = ModelContract(64, 96, threshold=0.4)
ARRAY_CONTRACT = ModelContract(64, 96, normalization="minmax255")
HALF = float(np.finfo(np.float16).eps)
compressions = pytest.mark.parametrize("precision", list(COMPRESSIONS))


def random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(5)
    return build_deploy_graph(EGEUNet().eval(), CONTRACT)


@pytest.fixture(scope="module")
def folder(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random network in float16 and in every compression."""
    folder = tmp_path_factory.mktemp("compressed")
    for precision in ("float16", *COMPRESSIONS):
        emit_coreml(graph, CONTRACT, folder / f"{precision}.mlpackage", precision)
    return folder


@pytest.mark.parametrize("axis", [0, 1])
def test_linear_is_off_by_half_a_step_at_most(axis: int) -> None:
    data = random(7, 5, 3, 2) * np.logspace(-2, 2, 7, dtype=np.float32).reshape(7, 1, 1, 1)
    data[3] = 0 if axis == 0 else data[3]
    quantized, scale = linear(data, axis)
    assert quantized.dtype == np.int8 and quantized.shape == data.shape
    assert scale.dtype == np.float16 and scale.shape == (data.shape[axis],)
    along = scale.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
    # Half a step; the largest is clipped where the scale was rounded down.
    allowed = along * (0.5 + 127 * HALF)
    assert (np.abs(quantized * along - data) <= allowed).all()
    if axis == 0:
        assert not quantized[3].any()
        assert (np.abs(quantized).max(axis=(1, 2, 3))[[0, 1, 2, 4, 5, 6]] >= 126).all()


@pytest.mark.parametrize("bits", [4, 6])
def test_palette_is_the_best_that_its_values_allow(bits: int) -> None:
    data = random(40, 30)
    indices, table = palettized(data, bits)
    assert table.shape == (2**bits,) and (np.diff(table.astype(np.float32)) > 0).all()
    distances = np.abs(data.reshape(-1, 1) - table.astype(np.float32))
    chosen = distances[np.arange(data.size), indices]
    assert np.allclose(chosen, distances.min(axis=1), atol=1e-6)  # each takes the nearest
    # Each value is the mean of those that take it; a few change sides as it is rounded.
    means = [data.reshape(-1)[indices == index].mean() for index in range(2**bits)]
    assert np.abs(means - table.astype(np.float32)).mean() < 2e-3
    error = np.sqrt((chosen**2).mean())
    assert error < {4: 0.09, 6: 0.022}[bits]  # the least is 0.086 and 0.020
    again = palettized(data, bits)
    assert np.array_equal(again[0], indices) and np.array_equal(again[1], table)


def test_palette_of_few_values_is_exact() -> None:
    data = np.array([0.5, -1.0, 2.0] * 40, np.float32)
    indices, table = palettized(data, 4)
    assert np.array_equal(table.astype(np.float32)[indices], data)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([4, 6, 8]), st.integers(1, 70), st.integers(0, 2**32))
def test_packing_is_coremltools_own(bits: int, count: int, seed: int) -> None:
    from coremltools.optimize._utils import pack_elements_into_bits

    indices = np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint8)
    data = packed(indices, bits)
    assert np.array_equal(data, pack_elements_into_bits(indices, bits))
    assert np.array_equal(unpacked(data, bits, count), indices)


@compressions
@pytest.mark.parametrize("op", ["conv", "depthwise", "gate"])
def test_operator(precision: str, op: str, tmp_path: Path) -> None:
    """The package computes with what the two functions above make of the weight."""
    channels = {"conv": 12, "depthwise": 80, "gate": 24}[op]
    builder = GraphBuilder((1, 8, 6, channels))
    weight = {"conv": random(20, 3, 3, 12), "depthwise": random(1, 3, 3, 80),
              "gate": random(1, 8, 6, 24)}[op]  # fmt: skip

    def expanded(data: Any, axis: int) -> Any:
        how = COMPRESSIONS[precision]
        if how.palette:
            indices, table = palettized(data, how.bits)
            return table.astype(np.float32)[indices].reshape(data.shape)
        quantized, scale = linear(data, axis)
        along = scale.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
        return (quantized * along).astype(np.float16).astype(np.float32)

    def appended(b: GraphBuilder, data: Any) -> Graph:
        if op == "conv":
            return b.finish(b.conv2d(b.input, data, random(20)))
        if op == "depthwise":
            return b.finish(b.depthwise_conv2d(b.input, data, random(80)))
        return b.finish(b.mul(b.input, b.constant(data)))

    # As stored, channels first: OIHW, C1HW, 1CHW.
    order = {"conv": (0, 3, 1, 2), "depthwise": (3, 0, 1, 2), "gate": (0, 3, 1, 2)}[op]
    stored = expanded(weight.transpose(order), 1 if op == "gate" else 0)
    approximate = stored.transpose(np.argsort(order)).copy()
    path = tmp_path / "m.mlpackage"
    emit_coreml(appended(builder, weight), ARRAY_CONTRACT, path, precision)
    image = random(1, 8, 6, channels)
    reference = appended(GraphBuilder((1, 8, 6, channels)), approximate)
    want = run_graph(reference, torch.from_numpy(image)).permute(0, 3, 1, 2)
    got = run_package(path, image.transpose(0, 3, 1, 2).copy())
    difference = (got - want).abs().max().item()
    assert difference <= 2 * HALF * want.abs().max().item() + 2e-2, difference
    exact = run_graph(appended(GraphBuilder((1, 8, 6, channels)), weight), torch.from_numpy(image))
    assert (exact.permute(0, 3, 1, 2) - want).abs().max() > 1e-3  # it does make a difference


@compressions
def test_constants_are_expanded_as_coremltools_does(folder: Path, precision: str) -> None:
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops

    from egeunet.export.coreml.interpret import _OPERATIONS

    package = Package(folder / f"{precision}.mlpackage")
    operations = [op for op in package.operations() if op.type.startswith("constexpr_")]
    assert len(operations) > 15
    for operation in operations:
        arguments = package.attributes(operation)
        plain = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
        want = getattr(constexpr_ops, operation.type).decompress(**plain)
        got = _OPERATIONS[operation.type](arguments).numpy()
        assert got.shape == package.shape(operation.outputs[0]) == want.shape
        assert np.array_equal(got, want)
        assert package.is_float16(operation.outputs[0])
        assert got.size >= COMPRESSIONS[precision].smallest


@compressions
def test_only_constants_differ_from_float16(folder: Path, precision: str) -> None:
    counts = [
        Counter(op.type for op in Package(folder / f"{name}.mlpackage").operations())
        for name in ("float16", precision)
    ]
    kind = "constexpr_lut_to_dense" if COMPRESSIONS[precision].palette else (
        "constexpr_affine_dequantize")  # fmt: skip
    assert counts[1].pop(kind) == counts[0].pop("const") - counts[1].pop("const") > 15
    assert counts[0] == counts[1]


@compressions
def test_network_is_near_float16(folder: Path, precision: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 96)).astype(np.float32)
    want, got = (
        run_package(folder / f"{name}.mlpackage", pixels) for name in ("float16", precision)
    )
    difference = (got - want).abs()
    limit = {"linear8": 0.03, "palettized6": 0.15, "palettized4": 0.4}[precision]
    assert 0 < difference.mean() < limit, difference.mean()


def test_fewer_bits_fewer_bytes(folder: Path) -> None:
    names = ("float16", "linear8", "palettized6", "palettized4")
    sizes = [tree_bytes(folder / f"{name}.mlpackage") for name in names]
    assert sizes == sorted(sizes, reverse=True) and sizes[1] < 0.9 * sizes[0], sizes


@compressions
def test_same_graph_same_bytes(graph: Graph, folder: Path, tmp_path: Path, precision: str) -> None:
    emit_coreml(graph, CONTRACT, tmp_path / "m.mlpackage", precision)
    for file in (tmp_path / "m.mlpackage").rglob("*.*"):
        if file.is_file():
            relative = file.relative_to(tmp_path / "m.mlpackage")
            assert file.read_bytes() == (folder / f"{precision}.mlpackage" / relative).read_bytes()


@compressions
def test_a_weight_beyond_float16(tmp_path: Path, precision: str) -> None:
    builder = GraphBuilder((1, 4, 6, 30))
    huge = builder.constant(np.full((1, 4, 6, 30), 1e5, np.float32))
    with pytest.raises(InputError, match="100000 is beyond the range of float16"):
        graph = builder.finish(builder.mul("image", huge))
        emit_coreml(graph, ARRAY_CONTRACT, tmp_path / "m.mlpackage", precision)


@compressions
def test_shipped_weights_pass_their_gates(tmp_path: Path, precision: str) -> None:
    if not shipped_weights().is_file():
        pytest.skip("SKIPPED LOUDLY: no shipped weights, and random ones are no fair test")
    artifact = export("coreml", precision, out=tmp_path)
    assert artifact.path.name == f"egeunet_{precision}.mlpackage"
    assert artifact.report["parity"]["checked"] and artifact.report["io"] == "float32"
    assert artifact.report["bytes"] == tree_bytes(artifact.path) < 180_000


def test_other_formats_have_no_such_precision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format tflite has no precision 'linear8'"):
        export("tflite", "linear8", out=tmp_path)
    assert list(tmp_path.iterdir()) == []
