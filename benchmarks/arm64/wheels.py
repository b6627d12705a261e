"""The runtimes' aarch64 wheels, by pip, each pinned by version and SHA-256."""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from egeunet.benchmarks.arm64.host import Progress, run_tool
from egeunet.export.provenance import sha256_of
from egeunet.model.errors import InputError

_PLATFORMS = ("manylinux_2_27", "manylinux_2_28", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True)
class Wheel:
    """One wheel for CPython 3.11 on 64-bit Arm: exactly this file, as counts belong to it."""

    requirement: str
    sha256: str


WHEELS = (
    Wheel(
        "ai-edge-litert==2.3.0",
        "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
    ),
    Wheel(
        "numpy==2.4.6",
        "0ab0a9c4ffb1a6d95ef519fe4247dba8eb6b18ad93999f76b7f657039acabd47",
    ),
    Wheel(
        "onnxruntime==1.32.0",
        "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
    ),
)


def fetch_wheels(folder: Path, progress: Progress) -> list[Path]:
    """Download WHEELS into ``folder``; whole ones of an earlier try are kept.

    pip writes into a folder of its own, and a wheel moves here when its hash is right: what
    an interrupt leaves is never taken for whole.

    Raises:
        InputError: pip's message (no network, a wrong hash).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    here = {sha256_of(path): path for path in folder.glob("*.whl")}
    for wheel in WHEELS:
        if wheel.sha256 in here:
            progress(f"{wheel.requirement} for arm64 is here")
            continue
        progress(f"downloading {wheel.requirement} for arm64 from the package index")
        here[wheel.sha256] = _download(wheel, folder)
    return [here[wheel.sha256] for wheel in WHEELS]


def unpack_wheels(wheels: list[Path], target: Path) -> None:
    """Unpack into ``target``, which appears whole or not at all.

    Raises:
        InputError: a damaged wheel.
    """
    partial = target.with_name(target.name + ".partial")
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(partial)
        except zipfile.BadZipFile as error:
            raise InputError(f"{wheel}: damaged ({error}); remove it and run this again") from error
    partial.replace(target)


def _download(wheel: Wheel, folder: Path) -> Path:
    platforms = [f"--platform={platform}_aarch64" for platform in _PLATFORMS]
    target = ["--only-binary=:all:", "--no-deps", "--python-version=3.11", "--implementation=cp"]
    with tempfile.TemporaryDirectory(dir=folder, suffix=".partial") as name:
        partial = Path(name)
        pinned = partial / "requirement.txt"
        pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
        source = ["--require-hashes", "--requirement", str(pinned), "--dest", str(partial)]
        run_tool([*pip, *target, *platforms, *source], f"{wheel.requirement} cannot be had")
        (downloaded,) = partial.glob("*.whl")
        return downloaded.replace(folder / downloaded.name)
