"""Where a file came from and on what it was made: hashes, platform, versions."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from egeunet.model.errors import InputError

_PACKAGES = (
    "egeunet-mobile",
    "numpy",
    "pillow",
    "safetensors",
    "torch",
    "onnx",
    "onnxsim",
    "coremltools",
    "onnxruntime",
    "ai-edge-litert",
    # what the peers of egeunet-bench are made with
    "litert-torch",
    "ai-edge-quantizer",
    "onnxscript",
    "ncnn",
    "pnnx",
    "MNN",
    "openvino",
    "executorch",
)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def tree_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    if path.is_file():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def tree_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def environment() -> dict[str, Any]:
    """Python, platform and the versions of the packages that take part, if installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
    }
