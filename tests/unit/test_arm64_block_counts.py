"""The plug-in against programs whose every instruction is known."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from egeunet.benchmarks.arm64.counts import Interval, Mix, read_counts
from egeunet.benchmarks.arm64.emulator import Cut
from egeunet.benchmarks.arm64.installation import compile_plugin
from egeunet.model.errors import InputError

# 64-bit Arm machine code, written out: no cross assembler is needed.
_SVC = 0xD4000001
_SUBS_X0_X0_1 = 0xF1000400
_B_NE_BACK_ONE = 0x54FFFFE1
_B_FORWARD, _BL_FORWARD = 0x14000000, 0x94000000  # and how many instructions
_B_NEXT = _B_FORWARD | 1
_RET = 0xD65F03C0
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
            pytest.skip(f"SKIPPED LOUDLY: {tool} is absent, so the plug-in is not run")
    path = tmp_path_factory.mktemp("plugin") / "block_counts.so"
    compile_plugin(path)
    return path


def _count(plugin: Path, folder: Path, code: list[int], cut: Cut | None = None) -> list[Interval]:
    program = _program(folder / "program", code)
    argument = f"{plugin},out={folder / 'counts'}{(cut or Cut()).argument()}"
    qemu = ["qemu-aarch64", "-cpu", "cortex-a76", "-plugin", argument]
    subprocess.run([*qemu, str(program)], check=True)
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
    (interval,) = _count(plugin, tmp_path, code, Cut(loop))
    # The first turn lies in the block of the load before it: three turns enter at `loop`.
    assert [part.instructions for part in interval.parts] == [3, 2, 2, 4]
    assert [part.opened_by for part in interval.parts] == [0, loop, loop, loop]
    assert interval.instructions == 11


def test_parts_begin_where_the_region_is_entered_again(plugin: Path, tmp_path: Path) -> None:
    mark = _system_call(_GETPPID)
    start = _LOAD_ADDRESS + _CODE + 4 * len(mark)
    # Twice: a call out of the region, in which blocks follow one another, and back.
    region = [_BL_FORWARD | 7, _B_NEXT, _B_NEXT, _BL_FORWARD | 4, *mark]
    code = [*mark, *region, _B_NEXT, *_countdown(2), _RET, _movz(0, 0), *_system_call(_EXIT)]
    code[len(mark) + len(region)] = _B_FORWARD | 5  # over the function, to the end
    (interval,) = _count(plugin, tmp_path, code, Cut(start=start, end=start + 4 * len(region)))
    # The call with the function, 1 + 6; two jumps and a call with it, 3 + 6; the marker.
    assert [part.instructions for part in interval.parts] == [7, 9, 2]
    assert [part.opened_by for part in interval.parts] == [0, start + 4, start + 16]


@pytest.mark.parametrize(
    ("code", "mix"),
    [
        (0x4E829420, Mix(dot_product=1)),  # sdot v0.4s, v1.16b, v2.16b
        (0x2E829420, Mix(dot_product=1)),  # udot v0.2s, v1.8b, v2.8b
        (0x4FA2E820, Mix(dot_product=1)),  # sdot v0.4s, v1.16b, v2.4b[3]
        (0x6F82E020, Mix(dot_product=1)),  # udot v0.4s, v1.16b, v2.4b[0]
        (0x4E22CC20, Mix(simd=1)),  # fmla v0.4s, v1.4s, v2.4s
        (0x4F821020, Mix(simd=1)),  # fmla v0.4s, v1.4s, v2.s[0]
        (0x0E628020, Mix(simd=1)),  # smlal v0.4s, v1.4h, v2.4h
        (0x5F829020, Mix(simd=1)),  # fmul s0, s1, v2.s[0]
        (0x6E041C20, Mix(simd=1)),  # mov v0.s[0], w1 and its like
        (0x3DC003E0, Mix(load_store=1)),  # ldr q0, [sp]
        (0x4C407BE0, Mix(load_store=1)),  # ld1 {v0.4s}, [sp]
        (0xF94003E0, Mix(load_store=1)),  # ldr x0, [sp]
        (0xA94007E0, Mix(load_store=1)),  # ldp x0, x1, [sp]
        (0xF98003E0, Mix(load_store=1)),  # prfm pldl1keep, [sp]
        (0x1E220820, Mix(other=1)),  # fmul s0, s1, s2
        (0x1E220020, Mix(other=1)),  # scvtf s0, w1
        (0x8B020020, Mix(other=1)),  # add x0, x1, x2
        (0x9B020C20, Mix(other=1)),  # madd x0, x1, x2, x3
        (0xD503201F, Mix(other=1)),  # nop
    ],
)
def test_an_instruction_is_of_one_class(plugin: Path, tmp_path: Path, code: int, mix: Mix) -> None:
    mark = _system_call(_GETPPID)
    program = [*mark, *[code] * 5, *mark, _movz(0, 0), *_system_call(_EXIT)]
    (interval,) = _count(plugin, tmp_path, program)
    marker = Mix(other=2)
    assert interval.mix == Mix(*(5 * count for count in mix)).plus(marker)


def test_an_interval_left_open_is_an_error(plugin: Path, tmp_path: Path) -> None:
    code = [*_system_call(_GETPPID), _movz(0, 0), *_system_call(_EXIT)]
    with pytest.raises(InputError, match="inside an interval"):
        _count(plugin, tmp_path, code)
