"""From counts per block to counts per function of the runtime's libraries."""

from __future__ import annotations

import shutil
import subprocess
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egeunet.benchmarks.arm64.counts import Blocks, Mix, sum_of
from egeunet.benchmarks.arm64.symbols import ElfFile


@dataclass(frozen=True)
class Row:
    """Instructions spent in one function of one file."""

    file: str
    function: str
    mix: Mix

    @property
    def instructions(self) -> int:
        """Of all classes."""
        return self.mix.total


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
        self._known: dict[int, tuple[str, str]] = {}

    def function_at(self, address: int) -> tuple[str, str]:
        """(file name, function) of an address; ("?", its page) outside every file."""
        if address not in self._known:
            self._known[address] = self._look_up(address)
        return self._known[address]

    def _look_up(self, address: int) -> tuple[str, str]:
        index = bisect_right(self._starts, address) - 1
        mapping = self._mappings[index] if index >= 0 else None
        if mapping is None or address >= mapping.end:
            return "?", f"page {address >> 12:x}000"
        elf = self._file(mapping.file)
        linked = elf.address_of_offset(address - mapping.start + mapping.offset)
        return elf.name, elf.function_at(linked)

    def find(self, symbol: str) -> tuple[int, int] | None:
        """Where a function of a mapped library lies in this run (start, end), or None."""
        for path in dict.fromkeys(m.file for m in self._mappings if ".so" in m.file.name):
            place = self._file(path).place_of_symbol(symbol)
            for m in self._mappings if place else ():
                offset, size = place or (0, 0)
                if m.file == path and m.offset <= offset < m.offset + m.end - m.start:
                    start = m.start + offset - m.offset
                    return start, start + size
        return None

    def _file(self, path: Path) -> ElfFile:
        if path not in self._files:
            self._files[path] = ElfFile(path, self._debug)
        return self._files[path]


def rows_of(blocks: Blocks, addresses: AddressMap) -> list[Row]:
    """Counts per function, greatest first; they add up to all of ``blocks``."""
    mixes: defaultdict[tuple[str, str], list[Mix]] = defaultdict(list)
    for address, mix in blocks.items():
        mixes[addresses.function_at(address)].append(mix)
    rows = [Row(*place, sum_of(counted)) for place, counted in mixes.items()]
    return sorted(rows, key=lambda row: (-row.instructions, row.file, row.function))


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
