"""Files that appear whole or not at all: temporary file, fsync, rename."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egeunet.model.errors import OutputError

_SUFFIX = ".partial"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the target's folder; on success it replaces the target.

    The target may be a file or a folder (a Core ML package is one). On any error or
    interrupt the temporary one is removed and the target stays as it was.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and path.suffix != ".mlpackage":
            raise OutputError(f"{path} is a folder; expected to write a file there")
        _remove_orphans(path)
        prefix = f".{path.name}.{os.getpid()}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=path.parent))
    try:
        with explained(path):
            temporary = folder / path.name
            yield temporary
            for written in (temporary, *temporary.rglob("*")):
                _sync(written)
            if path.is_dir():
                _replace_folder(temporary, path, folder / "old")
            else:
                temporary.replace(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn an OSError about ``path`` into a one-line :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space or choose another folder",
            errno.EACCES: "choose a folder you may write to",
            errno.EROFS: "choose a folder you may write to",
            errno.ENOTDIR: "a part of the path is a file, not a folder",
            errno.EEXIST: "a part of the path is a file, not a folder",
        }
        hint = hints.get(error.errno or 0, "check the path")
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {hint}") from error


def _replace_folder(temporary: Path, path: Path, aside: Path) -> None:
    """A folder cannot be replaced in one step: move it aside, and back if that fails."""
    path.replace(aside)
    try:
        temporary.replace(path)
    except BaseException:
        aside.replace(path)
        raise


def _remove_orphans(path: Path) -> None:
    """Remove what a killed process left of an earlier try at the same target."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*-*{_SUFFIX}"):
        owner = folder.name.removesuffix(_SUFFIX).rpartition(".")[2].partition("-")[0]
        if owner.isdecimal() and not _is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
