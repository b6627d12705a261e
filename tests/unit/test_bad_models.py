"""Damaged and foreign model files: one clear error from each, whatever the runtime does."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.export.onnx.mobile import to_ort
from egeunet.export.runners import known_suffixes, open_runner
from egeunet.model import ModelContract
from egeunet.model.errors import InputError, MissingExtraError

CONTRACT = ModelContract(32, 32)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
INT8 = {"input_quantization": (1 / 255, -128), "output_quantization": (1 / 255, -128)}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


WRONG = [
    (".onnx", {"outputs": 2}, "expected one output, got 2: p0, p1"),
    (".onnx", {"input_shape": [1, 1, 32, 32]}, r"input 'image' has shape \[1, 1, 32, 32\]"),
    (".onnx", {"input_shape": [4096, 3, 32, 32]}, r"shape \[4096, 3, 32, 32\].*up to 1024"),
    (".onnx", {"input_shape": [1, 32, 32, 3]}, "three channels first"),
    (
        ".onnx",
        {"input_type": "UINT8"},
        "input 'image' is uint8 and the metadata entry 'egeunet.quantization' does not say",
    ),
    (".onnx", {"size": 64}, "input height is 64 but its contract says 32"),
    (".tflite", {"outputs": 2}, "expected one output, got 2: p0, p1"),
    (".tflite", {"input_shape": (1, 32, 32, 1)}, r"input 'image' has shape \(1, 32, 32, 1\)"),
    (".tflite", {"input_shape": (2, 32, 32, 3)}, r"shape \(2, 32, 32, 3\)"),
    (".tflite", {"size": 64}, "input height is 64 but its contract says 32"),
    (".tflite", {"io": "uint8", "output_quantization": (0.0, 0)}, "'q0' is uint8 with scale 0"),
    (".tflite", {"io": "uint8", "output_quantization": (1 / 255, 256)}, "zero point 256"),
    (".tflite", {"io": "uint8", "input_quantization": None}, "'image' is uint8 with scale 0"),
    (".tflite", {"io": "int32"}, "'image' is tensor type int32, expected one of float32"),
]


@pytest.mark.parametrize(("suffix", "options", "words"), WRONG)
def test_another_kind_of_model_is_refused(
    tmp_path: Path, suffix: str, options: dict[str, Any], words: str
) -> None:
    make = tiny.onnx_bytes if suffix == ".onnx" else tiny.tflite_bytes
    path = write(tmp_path / f"m{suffix}", make(CONTRACT.to_dict(), **options))
    with pytest.raises(InputError, match=words) as caught:
        open_runner(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize(
    "contract",
    [
        "not json",
        "[1]",
        '{"height": 33}',
        '{"threshold": "high"}',
        '{"colour": "BGR"}',
        '{"surprise": 1}',
        "[" * 100_000,
    ],
)
def test_unusable_contract_is_refused(tmp_path: Path, suffix: str, contract: str) -> None:
    make = tiny.onnx_bytes if suffix == ".onnx" else tiny.tflite_bytes
    with pytest.raises(InputError, match="contract"):
        open_runner(write(tmp_path / f"m{suffix}", make(contract)))


def test_size_that_is_no_multiple_of_32_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiple of 32, got 250"):
        open_runner(write(tmp_path / "m.onnx", tiny.onnx_bytes(None, size=250)))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_model_that_gives_nan_is_refused(tmp_path: Path, suffix: str) -> None:
    make = tiny.onnx_bytes if suffix == ".onnx" else tiny.tflite_bytes
    path = write(tmp_path / f"m{suffix}", make(CONTRACT.to_dict(), bias=float("nan")))
    with pytest.raises(InputError, match="the model gives NaN"):
        open_runner(path)(PIXELS)


def test_model_that_gives_logits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", tiny.onnx_bytes(CONTRACT.to_dict(), sigmoid=False))
    with pytest.raises(InputError, match=r"values from -.* expected probabilities"):
        open_runner(path)(PIXELS)


def test_weights_with_nan_or_many_classes_are_refused(tmp_path: Path) -> None:
    import torch

    from egeunet.model import EGEUNet, EGEUNetConfig, save_weights

    model = EGEUNet()
    torch.nn.init.constant_(model.final.weight, float("nan"))
    save_weights(tmp_path / "nan.safetensors", model, CONTRACT)
    with pytest.raises(InputError, match="NaN or infinite"):
        open_runner(tmp_path / "nan.safetensors")
    save_weights(tmp_path / "two.safetensors", EGEUNet(EGEUNetConfig(num_classes=2)), CONTRACT)
    with pytest.raises(InputError, match="1 class, got 3 and 2"):
        open_runner(tmp_path / "two.safetensors")


def bad_bytes() -> dict[str, bytes]:
    good = tiny.tflite_bytes(CONTRACT.to_dict())
    graph = tiny.onnx_bytes(CONTRACT.to_dict())
    noise = random.Random(0).randbytes(4096)
    return {
        "half.tflite": good[: len(good) // 2],
        "noise.tflite": noise,
        "noise_behind_identifier.tflite": b"\x1c\0\0\0TFL3" + noise,
        "empty.tflite": b"",
        "text.tflite": b"this is no model\n" * 10,
        "identifier_only.tflite": b"\0\0\0\0TFL3",
        "crash.tflite": tiny.tflite_bytes(CONTRACT.to_dict(), crash=True),
        "half.onnx": graph[: len(graph) // 2],
        "noise.onnx": noise,
        "empty.onnx": b"",
        "text.onnx": b"this is no model\n" * 10,
        "empty.safetensors": b"",
        "noise.safetensors": noise,
        "text.pth": b"this is no checkpoint",
        "empty.pt": b"",
    }


@pytest.mark.parametrize("name", list(bad_bytes()))
def test_damaged_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, bad_bytes()[name])
    with pytest.raises(InputError) as caught:
        open_runner(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_crashes_the_runtime_does_not_crash_us(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", bad_bytes()["crash.tflite"])
    with pytest.raises(InputError, match="LiteRT crashed on it"):
        open_runner(path)


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from egeunet.export.runners import litert_runner, open_runner
from egeunet.model.errors import InputError
litert_runner.TRIAL_SECONDS = 5
outcomes = []
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        runner = open_runner(path)
        size = (runner.contract.height, runner.contract.width)
        runner(np.zeros((1, *size, 3), np.uint8))
        outcomes.append("runs")
    except InputError as error:
        assert str(path) in str(error) and "Traceback" not in str(error), str(error)
        outcomes.append("refused")
print(*outcomes)
"""


@pytest.mark.parametrize("suffix", ["onnx", "ort", "tflite"])
def test_flipped_bytes_never_end_the_process(tmp_path: Path, suffix: str) -> None:
    good = {
        "onnx": tiny.onnx_bytes(CONTRACT.to_dict()),
        "ort": to_ort(tiny.onnx_bytes(CONTRACT.to_dict())),
        "tflite": tiny.tflite_bytes(CONTRACT.to_dict(), io="int8", **INT8),
    }[suffix]
    generator = random.Random(3)
    files = 24 if suffix == "tflite" else 150
    for index in range(files):
        data = bytearray(good)
        data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
        (tmp_path / f"{index:03}.{suffix}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split()
    assert len(outcomes) == files
    assert {"runs", "refused"} == set(outcomes)


def test_unknown_and_missing_files(tmp_path: Path) -> None:
    known = (".mlpackage", ".onnx", ".ort", ".pt", ".pth", ".safetensors", ".tflite")
    assert known_suffixes() == known
    with pytest.raises(InputError, match=r"no runner for '.pb'; known: .mlpackage, .onnx, .ort"):
        open_runner(tmp_path / "m.pb")
    with pytest.raises(InputError, match="a file without suffix"):
        open_runner(tmp_path / "model")
    (tmp_path / "file.mlpackage").write_bytes(b"x")
    with pytest.raises(InputError, match="model not found"):
        open_runner(tmp_path / "file.mlpackage")
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(InputError, match="not a Core ML package that can be read"):
        open_runner(tmp_path / "empty.mlpackage")
    with pytest.raises(InputError, match="model not found"):
        open_runner(tmp_path / "absent.tflite")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="model not found"):
        open_runner(tmp_path / "folder.onnx")


@pytest.mark.parametrize("threads", [0, -1, True, 1.5])
def test_threads_must_be_a_positive_integer(threads: Any) -> None:
    with pytest.raises(InputError, match="threads"):
        open_runner("m.onnx", threads=threads)


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("onnxruntime", "m.onnx", "onnx"), ("ai_edge_litert.interpreter", "m.tflite", "tflite")],
)
def test_missing_runtime_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, extra: str
) -> None:
    path = write(tmp_path / name, b"x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"egeunet-mobile\[{extra}\]"):
        open_runner(path)
