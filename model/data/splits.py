"""Which picture belongs to which part: split CSVs, a held-out part, known leaks."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from egeunet.model.data.sample import Sample, check_id
from egeunet.model.errors import InputError

#: Training pictures of the paper's ISIC 2017 split that must not be trained on:
#: ISIC_0012970 (train) is the same picture as ISIC_0012127 (test).
KNOWN_LEAKS = frozenset({"ISIC_0012970"})

#: The split of a picture which a split CSV does not name: counted, never used by a command.
UNLISTED = "unlisted"

Item = TypeVar("Item", Sample, str)


@dataclass(frozen=True)
class SplitRow:
    """One row of a split CSV and the line it stands on."""

    id: str
    split: str
    line: int


def without(items: Iterable[Item], ids: Collection[str]) -> tuple[Item, ...]:
    """``items`` (samples or ids) except those whose id is in ``ids``; order kept."""
    return tuple(item for item in items if _id(item) not in ids)


def hold_out(items: Iterable[Item], every: int = 15) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Divide training samples (or ids) into (train, validation): by id, every 15th is held out.

    The result depends on the ids only, not on their order, a seed or a machine.

    Raises:
        InputError: ``every`` below 2, or too few items for one held-out item.
    """
    ordered = sorted(items, key=_id)
    if every < 2 or len(ordered) < every:
        raise InputError(
            f"cannot hold out every {every}th of {len(ordered)} pictures; "
            f"give a number from 2 to {len(ordered)}"
        )
    held = tuple(ordered[every // 2 :: every])
    return without(ordered, {_id(item) for item in held}), held


def find_split_csv(root: Path) -> Path | None:
    """The one ``split*.csv`` in ``root``, None if there is none.

    Raises:
        InputError: there are several.
    """
    found = sorted(path for path in root.glob("split*.csv") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{root}: several split files ({names}); name one with --split-csv")
    return found[0] if found else None


def read_splits(path: str | Path) -> tuple[list[SplitRow], list[str]]:
    """Read a CSV with the columns id and split (others, as official_part, are ignored).

    Returns:
        The good rows, and one line about each bad one: hostile or duplicate id, bad split
        name, too few fields.

    Raises:
        InputError: missing, not text, no rows, or a column is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"split file not found: {path}")
    rows: list[SplitRow] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in ("id", "split") if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} line 1: no column {' and '.join(map(repr, missing))}; "
                    f"found {list(reader.fieldnames or ())[:8]}"
                )
            for fields in reader:
                try:
                    row = _row(fields, reader.line_num)
                except InputError as error:
                    problems.append(f"{path} line {reader.line_num}: {error}")
                    continue
                if row.id in seen:
                    problems.append(
                        f"{path} line {row.line}: duplicate id {row.id!r}, "
                        f"first on line {seen[row.id]}"
                    )
                    continue
                seen[row.id] = row.line
                rows.append(row)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from error
    if not rows and not problems:
        raise InputError(f"{path}: no rows under the header")
    return rows, problems


def apply_splits(
    samples: Sequence[Sample], rows: Sequence[SplitRow], path: Path
) -> tuple[list[Sample], list[str]]:
    """Give every sample the split of its row, which overrides its folder's.

    A sample without a row gets the split "unlisted"; a row without a picture is a problem.
    """
    wanted = {row.id: row for row in rows}
    known = {sample.id for sample in samples}
    problems = [
        f"{path} line {row.line}: unknown id {row.id!r}; no picture of that name was found"
        for row in rows
        if row.id not in known
    ]
    divided = [
        replace(sample, split=wanted[sample.id].split if sample.id in wanted else UNLISTED)
        for sample in samples
    ]
    return divided, problems


def _row(fields: dict[str | None, str | None], line: int) -> SplitRow:
    id, split = fields.get("id"), fields.get("split")
    if id is None or split is None or None in fields:
        raise InputError("the number of fields differs from the header's")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", split):
        raise InputError(f"split {split[:40]!r} is not a word of letters and digits")
    return SplitRow(check_id(id), split, line)


def _id(item: Sample | str) -> str:
    return item.id if isinstance(item, Sample) else item
