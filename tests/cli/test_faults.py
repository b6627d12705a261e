"""Bad inputs, each of which ends in one clear line and exit code 2, without a partial file.

Twenty-two kinds: truncated JPEG, PNG bomb, escaping id in a split CSV, zero bytes, text
named .png, mask without image, NaN weights, state dict of another net, .tflite cut in half,
random bytes as .onnx, read-only folder, output path a file, full disk, size 250, negative
size, unknown format, unknown precision, contradictory flags, missing extra, kill -9 in
training, kill -9 in export, Ctrl-C. Read-only folder and full disk are in test_disks.py, the
last three in test_train_command.py and test_interrupts.py.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_models as tiny

pytestmark = pytest.mark.xdist_group("faults")
Run = Callable[..., "subprocess.CompletedProcess[str]"]
EVALUATE = "egeunet-evaluate IN/good.onnx --json OUT/r.json --quiet"
EXPORT = "egeunet-export --weights IN/w.safetensors --out OUT"
TRAIN = "egeunet-train --out OUT --no-compile --quiet --stages 32x1x8"


@dataclass(frozen=True)
class Fault:
    """A command line (IN and OUT are folders), what its error says, and the package that is
    made absent for it."""

    command: str
    words: str
    absent: str = ""


FAULTS = {
    "truncated JPEG": Fault(f"{EVALUATE} --data IN/truncated", "a.jpg"),
    "truncated JPEG to calibrate on": Fault(
        f"{EXPORT} --format tflite --int8 --calibration IN/truncated", "a.jpg"
    ),
    "PNG bomb": Fault(f"{EVALUATE} --data IN/bomb", "50000"),
    "id ../../etc/x in a split CSV": Fault(
        f"{EVALUATE} --data IN/good --split-csv IN/escaping.csv", "../../etc/x"
    ),
    "zero bytes": Fault("egeunet-data prepare IN/zero --out OUT/cache", "a.png"),
    "text named .png": Fault(f"{EVALUATE} --data IN/text", "a.png"),
    "mask without image": Fault("egeunet-data prepare IN/unpaired --out OUT/cache", "b"),
    "NaN weights": Fault(
        "egeunet-export --weights IN/nan.safetensors --out OUT --format tflite", "NaN or infinite"
    ),
    "state dict of another net": Fault(
        "egeunet-export --weights IN/other.pth --out OUT --format tflite", "not EGE-UNet weights"
    ),
    ".tflite cut in half": Fault(
        "egeunet-predict IN/good/images/a.png --model IN/half.tflite --out OUT", "half.tflite"
    ),
    "random bytes as .onnx": Fault(
        "egeunet-predict IN/good/images/a.png --model IN/random.onnx --out OUT", "not an ONNX file"
    ),
    "output path is a file": Fault(
        "egeunet-export --format tflite --weights IN/w.safetensors --out IN/w.safetensors",
        "is a file, not a folder",
    ),
    "output path is below a file": Fault(
        "egeunet-data synthetic --count 1 --size 32 --out IN/w.safetensors/here",
        "is a file, not a folder",
    ),
    "size 250": Fault(f"{EXPORT} --format tflite --size 250", "multiple of 32, got 250; try 256"),
    "size 250 to train": Fault(f"{TRAIN} 250x1x8", "multiple of 32, got 250"),
    "negative size": Fault(f"{EXPORT} --format tflite --size -32", "got -32"),
    "negative size to prepare": Fault(
        "egeunet-data prepare IN/good --size -32 --out OUT/cache", "-32"
    ),
    "unknown format": Fault(f"{EXPORT} --format pb", "'pb'; known: coreml, onnx, ort, tflite, all"),
    "unknown precision": Fault(
        f"{EXPORT} --format tflite --precision int4", "'int4'; known: float16, float32, int4-mixed"
    ),
    "--int8 and --fp16": Fault(f"{EXPORT} --format tflite --int8 --fp16", "not allowed with"),
    "--io with a float file": Fault(f"{EXPORT} --format tflite --io uint8", "needs --int8"),
    "--calibration of a float file": Fault(
        f"{EXPORT} --format tflite --calibration IN/good", "is for --int8"
    ),
    "a precision that the format lacks": Fault(
        f"{EXPORT} --format coreml --int8", "format coreml has no precision 'int8'"
    ),
    "missing extra: tflite": Fault(
        f"{EXPORT} --format tflite", "pip install 'egeunet-mobile[tflite]'", "ai_edge_litert"
    ),
    "missing extra: onnx": Fault(
        f"{EXPORT} --format onnx", "pip install 'egeunet-mobile[onnx]'", "onnx"
    ),
    "missing extra: coreml": Fault(
        f"{EXPORT} --format coreml", "pip install 'egeunet-mobile[coreml]'", "coremltools"
    ),
    "missing extra: torch": Fault(
        f"{EXPORT} --format tflite", "pip install 'egeunet-mobile[torch]'", "torch"
    ),
    "missing extra: train": Fault(TRAIN, "pip install 'egeunet-mobile[train]'", "torch"),
    "missing extra: a runtime": Fault(
        f"{EVALUATE} --data IN/good", "pip install 'egeunet-mobile[onnx]'", "onnxruntime"
    ),
}


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder IN: data folders, model files and weights, good and bad."""
    root = tmp_path_factory.mktemp("inputs")
    for name in ("good", "truncated", "bomb", "zero", "text", "unpaired"):
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
            Image.effect_noise((40, 40), 60).convert("RGB").save(root / name / "images" / "a.png")
        Image.new("L", (40, 40), 255).save(root / name / "masks" / "a.png")
    Image.new("L", (40, 40), 255).save(root / "unpaired" / "masks" / "b.png")
    (root / "zero" / "images" / "a.png").write_bytes(b"")
    (root / "text" / "images" / "a.png").write_text("not a picture\n" * 20)
    (root / "bomb" / "images" / "a.png").write_bytes(png_bomb(50_000))
    picture = root / "truncated" / "images" / "a.png"
    Image.open(picture).save(picture.with_suffix(".jpg"))
    picture.unlink()
    data = picture.with_suffix(".jpg").read_bytes()
    picture.with_suffix(".jpg").write_bytes(data[: len(data) // 2])
    (root / "escaping.csv").write_text("id,split\na,test\n../../etc/x,test\n")
    write_models(root)
    return root


def png_bomb(side: int) -> bytes:
    """A valid black PNG of side x side pixels: 300 KB that unpack to 2.5 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + side // 8)
    packed = b"".join([*(packer.compress(row * 1000) for _ in range(side // 1000)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_models(root: Path) -> None:
    import torch

    from egeunet.model import EGEUNet, ModelContract, save_weights

    contract = ModelContract(32, 32)
    (root / "good.onnx").write_bytes(tiny.onnx_bytes(contract.to_dict()))
    whole = tiny.tflite_bytes(contract.to_dict())
    (root / "half.tflite").write_bytes(whole[: len(whole) // 2])
    (root / "random.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    tiny.random_weights(root / "w.safetensors", seed=5)
    broken = EGEUNet()
    torch.nn.init.constant_(broken.final.weight, float("nan"))
    save_weights(root / "nan.safetensors", broken, contract)
    torch.save(torch.nn.Linear(3, 2).state_dict(), root / "other.pth")


def assert_one_line(done: subprocess.CompletedProcess[str], name: str, words: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()  # one, and so no traceback
    assert line.startswith(f"{name}: error: "), line
    assert words in line, line
    assert "Traceback" not in done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault(
    run_command: Run,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "older.txt").write_text("here before")
    if fault.absent:
        monkeypatch.setenv("PYTHONPATH", str(without_package(tmp_path, fault.absent)))
    name, *arguments = fault.command.split()
    filled = [a.replace("IN/", f"{inputs}/").replace("OUT", str(out)) for a in arguments]
    given = sorted(path.relative_to(inputs) for path in inputs.rglob("*"))
    done = run_command(name, *filled, cwd=tmp_path)
    assert_one_line(done, name, fault.words)
    assert contents(out) == {"older.txt": b"here before"}
    assert sorted(path.relative_to(inputs) for path in inputs.rglob("*")) == given


def without_package(folder: Path, package: str) -> Path:
    """A folder for PYTHONPATH in which ``import package`` fails as if it were not installed."""
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(
        "import importlib.machinery, sys\n"
        "class Finder(importlib.machinery.PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        f"        absent = name.partition('.')[0] == {package!r}\n"
        "        return None if absent else super().find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder\n"
    )
    return folder / "path"
