"""One picture with its mask, and a set of them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Sample:
    """One picture on disk.

    Attributes:
        id: file name without ending; never a path (:func:`check_id`).
        image: the picture.
        mask: its lesion mask, None where there is none.
        split: "train", "val", "test", ...; "all" where nothing divides the set,
            "unlisted" where a split CSV does not name the id.

    Raises:
        InputError: an id that is not a plain name.
    """

    id: str
    image: Path
    mask: Path | None
    split: str

    def __post_init__(self) -> None:
        check_id(self.id)


@dataclass(frozen=True)
class Dataset:
    """The pictures found under ``root``, ordered by split as found, then by id.

    Raises:
        InputError: an id given twice.
    """

    root: Path
    samples: tuple[Sample, ...]
    layout: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", tuple(self.samples))
        twice = [id for id, count in Counter(self.ids).items() if count > 1]
        if twice:
            raise InputError(f"{self.root}: duplicate id {twice[0]!r}; ids must be unique")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, in the order of ``samples``."""
        return tuple(sample.id for sample in self.samples)

    @property
    def splits(self) -> dict[str, int]:
        """How many pictures each split holds."""
        return dict(Counter(sample.split for sample in self.samples))

    def split(self, name: str) -> tuple[Sample, ...]:
        """All pictures of one split; nothing is left out (see ``KNOWN_LEAKS`` for that).

        Raises:
            InputError: there is no such split.
        """
        found = tuple(sample for sample in self.samples if sample.split == name)
        if not found:
            raise InputError(f"{self.root}: no split {name!r}; it has {sorted(self.splits)}")
        return found


def check_id(id: str) -> str:
    """Return ``id`` if it is a plain file name: it becomes part of output paths.

    Raises:
        InputError: empty, longer than 200 characters, beginning with a dot, with a slash,
            a backslash, a control character or outer blanks.
    """
    if not id or len(id) > 200 or id.strip() != id or id.startswith("."):
        raise InputError(f"id {id[:60]!r} is not a plain name of 1 to 200 characters")
    if re.search(r"[/\\\x00-\x1f\x7f]", id):
        raise InputError(f"id {id[:60]!r} holds a slash or a control character; use a plain name")
    return id
