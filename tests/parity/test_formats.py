"""Every exported file against the reference network, on real images.

A report of differences, not of quality: the bars on IoU are measured on all 650 test
images by egeunet-bench.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egeunet.export import Artifact
from egeunet.export.runners import open_runner
from egeunet.model.metrics import agreement, mask_iou

pytestmark = [pytest.mark.xdist_group("formats"), pytest.mark.slow]
Export = Callable[[str, str], Artifact]
RUNNABLE = [
    ("tflite", "float32"), ("tflite", "float16"), ("tflite", "int8"), ("onnx", "float32"),
    ("onnx", "float16"), ("onnx", "int8"), ("ort", "float32"), ("ort", "float16"),
]  # fmt: skip
runnable = pytest.mark.parametrize(
    ("format", "precision"), RUNNABLE, ids=["-".join(pair) for pair in RUNNABLE]
)
#: float32: largest difference of a probability. The others: share of equal mask pixels.
MAX_ABS_DIFF = 1e-3
AGREEMENT = {"float32": 0.9999, "float16": 0.999, "int8": 0.95}


@pytest.fixture(scope="session")
def reference(weights: Path, images: Any) -> Any:
    """float32 (N, 256, 256, 1), what PyTorch gives."""
    return open_runner(weights)(images)


@pytest.fixture(scope="session")
def results(exported: Export, images: Any) -> Callable[[str, str], Any]:
    """``results(format, precision)``: what that file gives, float32 (N, 256, 256, 1)."""
    known: dict[tuple[str, str], Any] = {}

    def once(format: str, precision: str) -> Any:
        if (format, precision) not in known:
            known[format, precision] = open_runner(exported(format, precision).path)(images)
        return known[format, precision]

    return once


def test_the_reference_finds_something(reference: Any) -> None:
    masks = reference >= 0.5
    assert 0.01 < masks.mean() < 0.9  # else the agreements below would mean nothing


@runnable
def test_masks_agree(
    results: Callable[[str, str], Any], reference: Any, format: str, precision: str
) -> None:
    got = results(format, precision)
    assert got.shape == reference.shape and got.dtype == np.float32
    difference = np.abs(got - reference)
    masks, expected = got[..., 0] >= 0.5, reference[..., 0] >= 0.5
    shared = agreement(masks, expected)
    text = (
        f"{format} {precision}: probability max {difference.max():.2g} mean "
        f"{difference.mean():.2g}; masks agree on {shared:.5f}, IoU {mask_iou(masks, expected):.4f}"
    )
    print(text)
    assert shared >= AGREEMENT[precision], text
    if precision == "float32":
        assert difference.max() <= MAX_ABS_DIFF, text


@runnable
def test_no_mask_is_constant_where_the_references_is_not(
    results: Callable[[str, str], Any], reference: Any, format: str, precision: str
) -> None:
    for index, (got, want) in enumerate(zip(results(format, precision), reference, strict=True)):
        masks = [probability >= 0.5 for probability in (got, want)]
        constant = [mask.all() or not mask.any() for mask in masks]
        assert constant[0] <= constant[1], f"image {index}: {masks[0].mean():.0%} lesion"


def test_a_batch_gives_what_single_images_give(
    exported: Export, results: Callable[[str, str], Any], images: Any
) -> None:
    runner = open_runner(exported("onnx", "float32").path)
    assert np.allclose(runner(images[:1]), results("onnx", "float32")[:1], atol=1e-6)


def test_the_files_of_one_precision_agree_with_each_other(
    results: Callable[[str, str], Any],
) -> None:
    difference = np.abs(results("tflite", "float32") - results("onnx", "float32"))
    assert difference.max() <= 2 * MAX_ABS_DIFF


@runnable
def test_contract_and_report(exported: Export, weights: Path, format: str, precision: str) -> None:
    artifact = exported(format, precision)
    contract = open_runner(weights).contract
    assert open_runner(artifact.path).contract == contract
    assert artifact.report["contract"] == contract.to_dict()
    assert artifact.report["bytes"] == artifact.path.stat().st_size


def test_gates_of_the_exporter_are_no_looser_than_here() -> None:
    text = (resources.files("egeunet.export") / "gates.toml").read_text()
    gates = tomllib.loads(text)
    assert gates["float32"]["max_abs_diff"] <= MAX_ABS_DIFF
    for precision, share in AGREEMENT.items():
        assert gates[precision]["agreement"] >= share
