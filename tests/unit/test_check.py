"""The parity check of a finished file, with runners that are wrong in known ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egeunet.export import check
from egeunet.export.check import IMAGES, check_parity, gates_of
from egeunet.export.registry import find_format, formats
from egeunet.export.request import Source
from egeunet.export.runners.torch_runner import TorchRunner
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.errors import GateError

CONTRACT = ModelContract(64, 96, threshold=0.4)
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def source() -> Source:
    torch.manual_seed(5)
    return Source(EGEUNet().eval(), CONTRACT, "w.safetensors", "ab")


def checked(
    source: Source, monkeypatch: pytest.MonkeyPatch, change: Change, precision: str = "float32"
) -> dict[str, Any]:
    """The check of a file whose probabilities are ``change`` of the reference's."""
    runner = TorchRunner.from_model(source.model, CONTRACT)
    seen: list[Any] = []

    def fake(image_nhwc: Any) -> Any:
        seen.append(image_nhwc.shape)
        return change(runner(image_nhwc)).astype(np.float32)

    monkeypatch.setattr(check, "open_runner", lambda path: fake)
    result = check_parity(Path("out/m.tflite"), find_format("tflite"), source, precision)
    assert seen == [(IMAGES, 64, 96, 3)]
    return result


def test_every_precision_has_gates() -> None:
    for kind in formats().values():
        for precision in (*kind.precisions, *kind.recipes):
            gates = gates_of(precision)
            assert gates and set(gates) <= {"max_abs_diff", "agreement", "mask_iou"}
            assert all(0 < gate <= 1 for gate in gates.values())


def test_an_equal_file(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    report = checked(source, monkeypatch, lambda p: p)
    assert report["checked"] is True and report["images"] == f"{IMAGES} synthetic"
    assert report["measured"] == {
        "max_abs_diff": 0.0, "agreement": 1.0, "mask_iou": 1.0, "new_constant_masks": 0,
    }  # fmt: skip
    assert report["gates"] == {**gates_of("float32"), "new_constant_masks": 0}


@pytest.mark.parametrize(
    ("precision", "change", "words"),
    [
        ("float32", lambda p: np.clip(p + 0.002, 0, 1), "max_abs_diff 0.002 (gate 0.001)"),
        ("float32", lambda p: 1 - p, "agreement"),
        ("int8", lambda p: 1 - p, "mask_iou"),
        ("int8", lambda p: p * 0, "new_constant_masks"),
        ("int8", lambda p: p * 0 + 1, "new_constant_masks"),
        ("float16", lambda p: np.roll(p, 9, axis=2), "agreement"),
    ],
    ids=["shifted", "inverted", "inverted int8", "empty", "full", "moved"],
)
def test_a_wrong_file(
    source: Source, monkeypatch: pytest.MonkeyPatch, precision: str, change: Change, words: str
) -> None:
    with pytest.raises(GateError) as error:
        checked(source, monkeypatch, change, precision)
    text = str(error.value)
    assert text.startswith("m.tflite is not as good as the reference: ")
    assert words in text and text.endswith("; the file was not kept")
    assert error.value.exit_code == 1


def test_masks_are_those_of_the_contracts_threshold(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_side(probability: Any) -> Any:
        """Everything between 0.4 and 0.5 is lesion by this contract."""
        return np.where((probability >= 0.4) & (probability < 0.5), 0.39, probability)

    with pytest.raises(GateError, match="agreement"):
        checked(source, monkeypatch, other_side)


def test_a_format_without_runtime_is_not_checked(source: Source) -> None:
    kind = replace(find_format("onnx"), name="other", suffix=".other")
    report = check_parity(Path("m.other"), kind, source, "float32")
    assert report["checked"] is False and "no runtime for other" in report["reason"]
