"""From counts per block to counts per function, and per operator where XNNPACK runs them."""

from __future__ import annotations

import shutil
import subprocess
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egeunet.benchmarks.arm64.emulator import Blocks
from egeunet.benchmarks.arm64.symbols import ElfFile

#: XNNPACK comes here once for every operator of its graph.
OPERATOR_ENTRY = "xnn_run_operator_with_index"


@dataclass(frozen=True)
class Row:
    """Instructions spent in one function of one file."""

    file: str
    function: str
    instructions: int


@dataclass(frozen=True)
class _Mapping:
    start: int
    end: int
    offset: int
    file: Path


class AddressMap:
    """The guest's memory map: what an address of the run belongs to.

    Args:
        maps: ``maps`` of the guest's report: range, offset and file of each executable mapping.
        debug: folder of detached debug files, see :class:`ElfFile`.
    """

    def __init__(self, maps: list[dict[str, Any]], debug: Path) -> None:
        self._mappings = sorted(map(_mapping, maps), key=lambda mapping: mapping.start)
        self._starts = [mapping.start for mapping in self._mappings]
        self._debug = debug
        self._files: dict[Path, ElfFile] = {}

    def function_at(self, address: int) -> tuple[str, str]:
        """(file name, function) of an address; ("?", its page) outside every file."""
        index = bisect_right(self._starts, address) - 1
        mapping = self._mappings[index] if index >= 0 else None
        if mapping is None or address >= mapping.end:
            return "?", f"page {address >> 12:x}000"
        elf = self._file(mapping.file)
        linked = elf.address_of_offset(address - mapping.start + mapping.offset)
        return elf.name, elf.function_at(linked)

    def find(self, symbol: str) -> int | None:
        """Where a function of a mapped shared library lies in this run, or None."""
        for path in dict.fromkeys(m.file for m in self._mappings if ".so" in m.file.name):
            offset = self._file(path).offset_of_symbol(symbol)
            if offset is not None:
                for m in self._mappings:
                    if m.file == path and m.offset <= offset < m.offset + m.end - m.start:
                        return m.start + offset - m.offset
        return None

    def _file(self, path: Path) -> ElfFile:
        if path not in self._files:
            self._files[path] = ElfFile(path, self._debug)
        return self._files[path]


def rows_of(blocks: Blocks, addresses: AddressMap) -> list[Row]:
    """Counts per function, greatest first; they add up to all of ``blocks``."""
    counts: Counter[tuple[str, str]] = Counter()
    for address, instructions in blocks.items():
        counts[addresses.function_at(address)] += instructions
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Row(file, function, n) for (file, function), n in ordered]


def total_of(parts: Iterable[Blocks]) -> Blocks:
    """One table from several."""
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def readable(names: list[str]) -> dict[str, str]:
    """C++ names as people write them, where the host has c++filt; else as they are."""
    tool = shutil.which("c++filt")
    if tool is None or not names:
        return {name: name for name in names}
    text = "\n".join(names) + "\n"
    done = subprocess.run([tool, "-p"], input=text, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return dict(zip(names, lines, strict=True)) if len(lines) == len(names) else {}


def _mapping(entry: dict[str, Any]) -> _Mapping:
    start, _, end = entry["range"].partition("-")
    return _Mapping(int(start, 16), int(end, 16), int(entry["offset"], 16), Path(entry["file"]))
