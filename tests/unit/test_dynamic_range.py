"""Dynamic-range int8: which kernels, how exactly, and that LiteRT runs the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egeunet.export import export
from egeunet.export.interpret import run_graph
from egeunet.export.lean import build_lean_graph
from egeunet.export.runners import open_runner
from egeunet.model import ModelContract, load_weights
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.quantize.dynamic_range import quantize_kernels

CONTRACT = ModelContract(64, 64)


def test_large_dense_kernels_are_int8_to_half_a_step_and_nothing_else_changes() -> None:
    graph = build_lean_graph(load_weights()[0], CONTRACT)
    made = quantize_kernels(graph)
    changed = 0
    for before, after in zip(graph.nodes, made.nodes, strict=True):
        assert before.op == after.op
        for old, new in zip(before.inputs, after.inputs, strict=True):
            one, two = graph.values[old], made.values[new]
            if two.dtype != "int8":
                assert two.data is None or np.array_equal(one.data, two.data)
                continue
            assert before.op == "conv2d" and "norm" not in before.scope
            assert two.quantization is not None and two.data is not None
            scale = two.quantization.scale[:, None, None, None]
            assert len(scale) == len(two.data)
            assert (np.abs(two.data * scale - one.data) <= 0.5001 * scale).all()
            changed += 1
    assert changed > 20


@pytest.mark.slow
def test_the_file_runs_and_agrees(tmp_path: Path) -> None:
    artifact = export("tflite", "int8-dynamic", out=tmp_path)
    assert artifact.path.name == "egeunet_int8-dynamic.tflite"
    assert artifact.report["parity"]["checked"]
    images = synthetic_dataset(2, 256, 9).images
    model, contract = load_weights()
    graph = build_lean_graph(model, contract)
    exact = run_graph(graph, torch.from_numpy(np.asarray(images)).float() / 255).numpy()
    found = open_runner(artifact.path)(images)
    assert np.abs(found - exact).mean() < 0.01
    float32 = export("tflite", "float32", out=tmp_path)
    assert artifact.report["bytes"] < 0.8 * float32.report["bytes"]
