"""Formats and precisions by name; what a request may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from egeunet.export import cli_export, registry
from egeunet.export.registry import find_format, find_precision, formats, register_format
from egeunet.export.request import ExportRequest
from egeunet.model.errors import InputError


def test_the_known_formats() -> None:
    found = formats()
    assert {name: (kind.suffix, set(kind.precisions)) for name, kind in found.items()} == {
        "tflite": (".tflite", {"float32", "float16", "int8"}),
        "onnx": (".onnx", {"float32", "float16", "int8"}),
        "ort": (".ort", {"float32", "float16"}),
        "coreml": (
            ".mlpackage",
            {"float16", "float32", "linear8", "palettized6", "palettized4"},
        ),
    }
    for name, kind in found.items():
        assert find_format(name) is kind and kind.name == name
        for precision in (*kind.precisions, *kind.recipes):
            assert callable(find_precision(precision))


def test_an_unknown_format_lists_the_known() -> None:
    with pytest.raises(
        InputError, match="unknown format 'tf'; known: coreml, onnx, ort, tflite, all"
    ):
        find_format("tf")


def test_an_unknown_precision_lists_the_known() -> None:
    match = (
        "unknown precision 'int4'; known: float16, float32, int4-mixed, int8, int8-dynamic, "
        "int8-mixed, int8-tuned, linear8, palettized4, palettized6"
    )
    with pytest.raises(InputError, match=match):
        find_precision("int4")


def test_the_table_that_is_given_out_is_a_copy() -> None:
    formats().clear()
    assert "tflite" in formats()


def test_a_format_is_added_by_a_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FORMATS", dict(registry._FORMATS))

    @register_format("text", ".txt", ("float32",), whole_norms=True)
    def write(*_: Any) -> None:
        raise AssertionError("not called here")

    assert find_format("text").write is write
    with pytest.raises(InputError, match="text, tflite, all"):
        find_format("tf")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"precision": "float32", "io": "uint8"}, "--io uint8 needs --int8, not precision float32"),
        ({"precision": "float16", "io": "int8"}, "--io int8 needs --int8"),
        ({"precision": "int8", "io": "int16"}, "--io must be one of float32, uint8, int8"),
        ({"precision": "float32", "calibration": Path("x")}, "--calibration is for --int8"),
    ],
    ids=str,
)
def test_contradictions(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExportRequest("tflite", **values)


@pytest.mark.parametrize(
    ("precision", "io", "want"),
    [("int8", None, "uint8"), ("int8", "float32", "float32"), ("float32", None, "float32"),
     ("float16", "float32", "float32")],
)  # fmt: skip
def test_io_type(precision: str, io: str | None, want: str) -> None:
    assert ExportRequest("tflite", precision, io=io).io_type == want


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ("--format tflite", [("tflite", "float32")]),
        ("--format tflite --int8", [("tflite", "int8")]),
        ("--format tflite --fp16", [("tflite", "float16")]),
        ("--format coreml", [("coreml", "float16")]),
        ("--format coreml --precision float32", [("coreml", "float32")]),
        ("--format onnx", [("onnx", "float32")]),
        ("--format all --int8", [("tflite", "int8"), ("onnx", "int8")]),
        ("--format onnx --fp16", [("onnx", "float16")]),
        ("--format ort", [("ort", "float32")]),
        ("--format coreml --precision palettized6", [("coreml", "palettized6")]),
        ("--format all --precision float16",
         [("tflite", "float16"), ("onnx", "float16"), ("ort", "float16"), ("coreml", "float16")]),
        ("--format all", [("tflite", "float32"), ("tflite", "float16"), ("tflite", "int8"),
                          ("onnx", "float32"), ("onnx", "float16"), ("onnx", "int8"),
                          ("ort", "float32"), ("ort", "float16"),
                          ("coreml", "float16"), ("coreml", "float32"), ("coreml", "linear8"),
                          ("coreml", "palettized6"), ("coreml", "palettized4")]),
    ],
)  # fmt: skip
def test_what_a_command_line_asks_for(line: str, pairs: list[tuple[str, str]]) -> None:
    requests = cli_export._requests(cli_export.parser().parse_args(line.split()))
    assert [(request.format, request.precision) for request in requests] == pairs
