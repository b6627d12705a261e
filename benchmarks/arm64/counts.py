"""What the plug-in writes: instructions by class, per block, per part of an interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from egeunet.model.errors import InputError


class Mix(NamedTuple):
    """Executed instructions by class; each instruction is of one class.

    Attributes:
        dot_product: SDOT and UDOT, four int8 products a lane.
        simd: the rest of Advanced SIMD (loads and stores excluded).
        load_store: of any register, prefetches included.
        other: integers, branches, system, scalar floating point.
    """

    dot_product: int = 0
    simd: int = 0
    load_store: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """Of all classes."""
        return sum(self)

    def plus(self, more: Mix) -> Mix:
        """The two added class by class."""
        return Mix(*(a + b for a, b in zip(self, more, strict=True)))

    def shares(self) -> dict[str, float]:
        """Each class as a fraction 0..1 of all."""
        total = self.total or 1
        return {name: count / total for name, count in self._asdict().items()}


Blocks = dict[int, Mix]
"""Address of a translated block -> guest instructions executed in it."""


@dataclass
class Part:
    """A stretch of an interval.

    Attributes:
        opened_by: address of the block that began it; 0 for the interval's first part.
        blocks: what ran in it.
    """

    opened_by: int = 0
    blocks: Blocks = field(default_factory=dict)

    @property
    def instructions(self) -> int:
        """Of all blocks."""
        return sum(mix.total for mix in self.blocks.values())


@dataclass
class Interval:
    """What was counted between two markers.

    Attributes:
        threads: alive at the end, the inference's own included.
        others: instructions of all but that one; not 0 = the count depends on chance.
        parts: of that one, in order; more than one where it was cut.
    """

    threads: int = 0
    others: int = 0
    parts: list[Part] = field(default_factory=lambda: [Part()])

    @property
    def mix(self) -> Mix:
        """Of all parts."""
        return sum_of(mix for part in self.parts for mix in part.blocks.values())

    @property
    def instructions(self) -> int:
        """Of all parts and classes."""
        return self.mix.total

    @property
    def blocks(self) -> Blocks:
        """One table of all parts."""
        total: Blocks = {}
        for part in self.parts:
            for address, mix in part.blocks.items():
                total[address] = total.get(address, Mix()).plus(mix)
        return total


def sum_of(mixes: Iterable[Mix]) -> Mix:
    """Added class by class."""
    columns = list(zip(*mixes, strict=True))
    return Mix(*map(sum, columns)) if columns else Mix()


def read_counts(text: str) -> list[Interval]:
    """The plug-in's file; see block_counts.c for its form.

    Raises:
        InputError: the file is cut short or an interval in it was never closed.
    """
    intervals: list[Interval] = []
    inside = False
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "begin":
            intervals.append(Interval())
            inside = True
        elif word == "part":
            intervals[-1].parts.append(Part(int(rest, 16)))
        elif word == "end":
            intervals[-1].threads, intervals[-1].others = map(int, rest.split())
            inside = False
        elif word == "exit":
            if not inside:
                return intervals
        else:
            blocks = intervals[-1].parts[-1].blocks
            address = int(word, 16)  # twice if the block was translated twice
            counted = Mix(*map(int, rest.split()))
            blocks[address] = blocks.get(address, Mix()).plus(counted)
    raise InputError("the counts end too early: the emulator was stopped inside an interval")
