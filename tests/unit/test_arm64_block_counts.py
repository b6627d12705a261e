"""The plug-in against programs whose every instruction is known."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from egeunet.benchmarks.arm64.emulator import Interval, read_counts
from egeunet.benchmarks.arm64.installation import compile_plugin
from egeunet.model.errors import InputError

# 64-bit Arm machine code, written out: no cross assembler is needed.
_SVC = 0xD4000001
_SUBS_X0_X0_1 = 0xF1000400
_B_NE_BACK_ONE = 0x54FFFFE1
_GETPPID, _EXIT = 173, 93
_LOAD_ADDRESS = 0x400000
_CODE = 64 + 56  # file header and one program header


def _movz(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


def _system_call(number: int) -> list[int]:
    return [_movz(8, number), _SVC]


def _countdown(turns: int) -> list[int]:
    return [_movz(0, turns), _SUBS_X0_X0_1, _B_NE_BACK_ONE]


def _program(path: Path, code: list[int]) -> Path:
    """A static executable of exactly these instructions."""
    size = _CODE + 4 * len(code)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = _LOAD_ADDRESS + _CODE
    header = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 4096)
    path.write_bytes(identity + header + load + struct.pack(f"<{len(code)}I", *code))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("qemu-aarch64", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: the plug-in cannot run")
    path = tmp_path_factory.mktemp("plugin") / "block_counts.so"
    compile_plugin(path)
    return path


def _count(plugin: Path, folder: Path, code: list[int], split: int = 0) -> list[Interval]:
    program = _program(folder / "program", code)
    argument = f"{plugin},out={folder / 'counts'}" + (f",split={split:x}" if split else "")
    subprocess.run(["qemu-aarch64", "-plugin", argument, str(program)], check=True)
    return read_counts((folder / "counts").read_text())


@pytest.mark.parametrize("turns", [1, 2, 1000, 65535])
def test_a_loop_is_counted_exactly(plugin: Path, tmp_path: Path, turns: int) -> None:
    mark = _system_call(_GETPPID)
    code = [*_countdown(77), *mark, *_countdown(turns), *mark, *_countdown(5)]
    (interval,) = _count(plugin, tmp_path, [*code, _movz(0, 0), *_system_call(_EXIT)])
    # One to load the number, two a turn, two of the marker that ends it.
    assert interval.instructions == 1 + 2 * turns + 2
    assert (interval.threads, interval.others) == (1, 0)


def test_each_interval_starts_at_zero(plugin: Path, tmp_path: Path) -> None:
    mark = _system_call(_GETPPID)
    code = [
        *mark,
        *_countdown(10),
        *mark,
        *_countdown(999),
        *mark,
        *_countdown(20),
        *mark,
        *(_movz(0, 0), *_system_call(_EXIT)),
    ]
    intervals = _count(plugin, tmp_path, code)
    assert [interval.instructions for interval in intervals] == [23, 43]


def test_parts_begin_at_the_split_address(plugin: Path, tmp_path: Path) -> None:
    mark = _system_call(_GETPPID)
    code = [*mark, *_countdown(4), *mark, _movz(0, 0), *_system_call(_EXIT)]
    loop = _LOAD_ADDRESS + _CODE + 4 * (len(mark) + 1)
    (interval,) = _count(plugin, tmp_path, code, split=loop)
    # The first turn lies in the block of the load before it: three turns enter at `loop`.
    assert [sum(part.values()) for part in interval.parts] == [3, 2, 2, 4]
    assert interval.instructions == 11


def test_an_interval_left_open_is_an_error(plugin: Path, tmp_path: Path) -> None:
    code = [*_system_call(_GETPPID), _movz(0, 0), *_system_call(_EXIT)]
    with pytest.raises(InputError, match="inside an interval"):
        _count(plugin, tmp_path, code)
