"""Addresses to functions, on libraries compiled here (any 64-bit little-endian host)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from egeunet.benchmarks.arm64.counts import Mix
from egeunet.benchmarks.arm64.kernel_profile import AddressMap, Row, rows_of
from egeunet.benchmarks.arm64.symbols import ElfFile
from egeunet.model.errors import InputError

_SOURCE = """
__attribute__((noinline)) static int hidden(int x) { return x * x + 1; }
__attribute__((noinline)) int shown(int x) { return hidden(x) + hidden(x + 1); }
"""


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None or sys.byteorder != "little":
        pytest.skip(f"SKIPPED LOUDLY: {name} is absent, or the host is big-endian")
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    source, path = tmp_path / "two.c", tmp_path / "libtwo.so"
    source.write_text(_SOURCE)
    flags = ["-O1", "-shared", "-fPIC", "-Wl,--build-id=0x1234abcd"]
    subprocess.run([_tool("cc"), *flags, "-o", str(path), str(source)], check=True)
    return path


def _address(path: Path, symbol: str) -> int:
    text = subprocess.run([_tool("nm"), str(path)], capture_output=True, text=True, check=True)
    found = re.search(rf"^([0-9a-f]+) [tT] {symbol}$", text.stdout, re.MULTILINE)
    assert found is not None
    return int(found[1], 16)


def test_local_and_global_functions_have_their_names(library: Path) -> None:
    elf = ElfFile(library)
    for name in ("hidden", "shown"):
        assert elf.function_at(_address(library, name)) == name
        assert elf.function_at(_address(library, name) + 2) == name


def test_a_stripped_function_is_called_by_its_address(library: Path) -> None:
    hidden, shown = _address(library, "hidden"), _address(library, "shown")
    subprocess.run([_tool("strip"), str(library)], check=True)
    elf = ElfFile(library)
    assert elf.function_at(shown + 2) == "shown"  # exported
    assert elf.function_at(hidden + 2) == f"function_{hidden:x}"


def test_a_detached_debug_file_gives_the_names_back(library: Path, tmp_path: Path) -> None:
    hidden = _address(library, "hidden")
    debug = tmp_path / "debug" / ".build-id" / "12" / "34abcd.debug"
    debug.parent.mkdir(parents=True)
    shutil.copyfile(library, debug)
    subprocess.run([_tool("strip"), str(library)], check=True)
    assert ElfFile(library, tmp_path / "debug").function_at(hidden) == "hidden"


def test_rows_add_up_and_are_sorted(library: Path) -> None:
    elf = ElfFile(library)
    offset, size = elf.place_of_symbol("shown") or (0, 0)
    assert offset and size and elf.place_of_symbol("absent") is None
    base = 0x5500000000
    loaded = {"range": f"{base:x}-{base + 0x100000:x}", "offset": "0", "file": str(library)}
    addresses = AddressMap([loaded], Path("/nowhere"))
    assert addresses.find("shown") == (base + offset, base + offset + size)
    assert addresses.find("absent") is None
    entry = base + offset
    hidden = base + (elf.place_of_symbol("hidden") or (0, 0))[0]
    blocks = {entry: Mix(simd=5), entry + 1: Mix(other=6), hidden: Mix(30), 0x10: Mix(1)}
    assert rows_of(blocks, addresses) == [
        Row("libtwo.so", "hidden", Mix(dot_product=30)),
        Row("libtwo.so", "shown", Mix(simd=5, other=6)),
        Row("?", "page 0000", Mix(dot_product=1)),
    ]


def test_not_an_elf_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no")
    with pytest.raises(InputError, match=r"notes\.txt: not a 64-bit"):
        ElfFile(path)
