"""One part of N of a list, for job arrays: ``--shard 3/8`` on the third of eight machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from egeunet.model.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1; the default is everything.

    Raises:
        InputError: unless 1 <= index <= count.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(
                f"shard {self.index}/{self.count} does not exist; "
                f"give I/N with I from 1 to N, say 1/{max(self.count, 1)}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"3/8"`` -> Shard(3, 8)."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise InputError(f"shard must be I/N, say 1/4, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def select(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every count-th item; the shards of a list cover it, each item once."""
        return items[self.index - 1 :: self.count]

    @property
    def suffix(self) -> str:
        """``-3-of-8`` for the names of files; empty where there is one shard only."""
        return "" if self.count == 1 else f"-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
