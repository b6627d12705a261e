"""Folders of results that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egeunet.model.atomic import explained, replacing
from egeunet.model.errors import OutputError


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` on success and is removed on any error.

    Raises:
        OutputError: ``path`` exists and is not an empty folder, cannot be written, disk full.
    """
    path = Path(path)
    with explained(path):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        if path.exists():
            raise OutputError(f"{path} exists already; remove it or choose another folder")
    with replacing(path) as temporary:
        temporary.mkdir()
        yield temporary
