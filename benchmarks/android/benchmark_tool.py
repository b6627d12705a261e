"""LiteRT's benchmark_model: where it lies, and whether it is built for the phone.

It cannot be shipped with this package; docs/phones.md says where it comes from.
"""

from __future__ import annotations

import os
from pathlib import Path

from egeunet.model.errors import InputError

#: ABI of Android -> (name of Google's build, machine number in an ELF header).
BUILDS = {
    "arm64-v8a": ("android_aarch64_benchmark_model", 183),
    "armeabi-v7a": ("android_arm_benchmark_model", 40),
    "x86_64": ("android_x86_64_benchmark_model", 62),
    "x86": ("android_x86_benchmark_model", 3),
}
_PLAIN = "benchmark_model"
_MACHINES = {machine: abi for abi, (_, machine) in BUILDS.items()}


def cache_folder() -> Path:
    """Where a copy is looked for when no path is given."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "egeunet-mobile" / "android"


def anything_cached() -> bool:
    """Whether the cache holds a build for any phone."""
    names = [_PLAIN, *(name for name, _ in BUILDS.values())]
    return any((cache_folder() / name).is_file() for name in names)


def find_tool(given: Path | None, abi: str) -> Path:
    """The benchmark_model to copy to a phone of this ABI.

    Raises:
        InputError: there is none, it is no program, or it is built for another processor.
    """
    if abi not in BUILDS:
        raise InputError(f"the phone's ABI is {abi}; expected one of {', '.join(BUILDS)}")
    name, machine = BUILDS[abi]
    candidates = [cache_folder() / name, cache_folder() / _PLAIN]
    path = given or next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise InputError(
            f"no benchmark_model for {abi}: put LiteRT's build {name} into {cache_folder()}, or "
            "give its path by --benchmark-model (docs/phones.md says where it is)"
        )
    found = elf_machine(path)
    if found != machine:
        kind = _MACHINES.get(found or 0, f"machine {found}") if found else "no program for Android"
        raise InputError(f"{path} is {kind}, the phone takes {abi}: get the build {name}")
    return path


def elf_machine(path: Path) -> int | None:
    """The machine number of an ELF program, None for any other file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise InputError(f"benchmark_model {path} cannot be read ({error.strerror})") from error
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    return int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
