"""Which function an address of an ELF file (64-bit, little-endian) belongs to.

Names come from .symtab and .dynsym, of the file or of the detached debug file that
its build identifier leads to. Where a stripped file has no name for an address, the
boundaries of its functions still stand in the unwind table (.eh_frame): such a function
is called by its address. Code with neither (assembly without unwind information) is
called by the gap it lies in.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from egeunet.model.errors import InputError

_SYMTAB, _DYNSYM, _FUNC, _IFUNC = 2, 11, 2, 10
_LOAD, _EXECUTABLE = 1, 1
#: Pointer encodings of .eh_frame that GCC and LLD write for shared libraries on Arm.
_SDATA4_DATAREL_TABLE = (0x1B, 0x03, 0x3B)


@dataclass(frozen=True)
class Function:
    """A range of addresses, start included and end excluded, with a name."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class _Section:
    kind: int
    address: int
    offset: int
    size: int
    link: int


class ElfFile:
    """The functions of one file; addresses are the file's own, before loading.

    Args:
        path: executable or shared library.
        debug: folder that holds .build-id/xx/yyyy.debug, as of Debian's -dbg packages.

    Raises:
        InputError: not a 64-bit little-endian ELF file.
    """

    def __init__(self, path: Path, debug: Path | None = None) -> None:
        self._data = path.read_bytes()
        if self._data[:6] != b"\x7fELF\x02\x01":
            raise InputError(f"{path}: not a 64-bit little-endian ELF file")
        self.name = path.name
        self._sections = self._read_sections()
        self._segments = self._read_segments()
        named = self._symbols()
        build_id = self._build_id()
        if debug is not None and build_id:
            detached = debug / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
            if detached.is_file():
                named += ElfFile(detached)._symbols()
        self._named = _sorted_once(named)
        self._unwound = _sorted_once(self._unwind_functions())
        self._named_starts = [function.start for function in self._named]
        self._unwound_starts = [function.start for function in self._unwound]

    def address_of_offset(self, offset: int) -> int:
        """From an offset in the file to the address it is linked at (executable segments)."""
        for start, size, address in self._segments:
            if start <= offset < start + size:
                return address + offset - start
        raise InputError(f"{self.name}: no code at file offset {offset:#x}")

    def place_of_symbol(self, name: str) -> tuple[int, int] | None:
        """File offset and size of the function of that name, or None."""
        for function in self._named:
            if function.name == name:
                for start, size, address in self._segments:
                    if address <= function.start < address + size:
                        return start + function.start - address, function.end - function.start
        return None

    def function_at(self, address: int) -> str:
        """Name of the function that holds ``address``, made up from its place if it has none."""
        for functions, starts in (
            (self._named, self._named_starts),
            (self._unwound, self._unwound_starts),
        ):
            index = bisect_right(starts, address) - 1
            if index >= 0 and address < functions[index].end:
                return functions[index].name
        for name, section in self._sections.items():
            if name.startswith(".plt") and 0 <= address - section.address < section.size:
                return name  # the jumps to other libraries
        if index := bisect_right(self._unwound_starts, address):
            return f"code_{self._unwound[index - 1].end:x}"
        return "code"

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from("<" + form, self._data, offset)

    def _read_sections(self) -> dict[str, _Section]:
        (table,) = self._unpack("Q", 40)
        size, count, names_index = self._unpack("HHH", 58)
        rows = [self._unpack("IIQQQQI", table + i * size) for i in range(count)]
        names = rows[names_index][4] if rows else 0
        sections = {}
        for name, kind, _, address, offset, length, link in rows:
            text = self._text(names + name)
            sections[text] = _Section(kind, address, offset, length, link)
        return sections

    def _read_segments(self) -> list[tuple[int, int, int]]:
        """(file offset, size in the file, address) of each executable segment."""
        (table,) = self._unpack("Q", 32)
        size, count = self._unpack("HH", 54)
        segments = []
        for i in range(count):
            kind, flags, offset, address, _, length = self._unpack("IIQQQQ", table + i * size)
            if kind == _LOAD and flags & _EXECUTABLE:
                segments.append((offset, length, address))
        return segments

    def _text(self, offset: int) -> str:
        return self._data[offset : self._data.index(b"\0", offset)].decode("utf-8", "replace")

    def _symbols(self) -> list[Function]:
        sections = list(self._sections.values())
        found = []
        for section in sections:
            if section.kind not in (_SYMTAB, _DYNSYM):
                continue
            names = sections[section.link].offset
            for offset in range(section.offset, section.offset + section.size, 24):
                name, info, _, place, value, size = self._unpack("IBBHQQ", offset)
                if place and size and info & 15 in (_FUNC, _IFUNC):
                    found.append(Function(value, value + size, self._text(names + name)))
        return found

    def _build_id(self) -> str:
        note = self._sections.get(".note.gnu.build-id")
        if note is None:
            return ""
        name_size, size = self._unpack("II", note.offset)
        start = note.offset + 12 + (name_size + 3) // 4 * 4
        return self._data[start : start + size].hex()

    def _unwind_functions(self) -> list[Function]:
        """Function boundaries from the sorted table of .eh_frame_hdr and its entries."""
        header = self._sections.get(".eh_frame_hdr")
        if header is None or tuple(self._data[header.offset + 1 : header.offset + 4]) != (
            _SDATA4_DATAREL_TABLE
        ):
            return []
        frame = self._sections[".eh_frame"]
        (count,) = self._unpack("I", header.offset + 8)
        found = []
        for i in range(count):
            start, entry = self._unpack("ii", header.offset + 12 + 8 * i)
            at = header.address + entry - frame.address + frame.offset
            # Length, pointer to the common entry, start (relative), size.
            (size,) = self._unpack("I", at + 12)
            begin = header.address + start
            found.append(Function(begin, begin + size, f"function_{begin:x}"))
        return found


def _sorted_once(functions: list[Function]) -> list[Function]:
    """By address; of names for one address the plainest, the same one always."""
    ordered = sorted(functions, key=lambda f: (f.start, f.name.startswith("_"), f.name))
    return [f for i, f in enumerate(ordered) if not i or f.start != ordered[i - 1].start]
