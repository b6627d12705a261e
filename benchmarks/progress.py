"""The progress bar of the commands: on standard error, and only where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, *, quiet: bool = False) -> Iterator[Item]:
    """Pass ``items`` on, with a bar unless ``quiet`` or standard error is no terminal."""
    from tqdm import tqdm

    silent = quiet or not sys.stderr.isatty()
    yield from tqdm(items, total=total, unit="image", disable=silent, file=sys.stderr)


def say(message: str) -> None:
    """One line on standard error that does not tear the bar."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)
