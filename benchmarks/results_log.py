"""results.jsonl: one line per predicted image, safe against kill -9, and what it lets us skip."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from egeunet.benchmarks.closing import Closing
from egeunet.benchmarks.pictures import Picture
from egeunet.model.atomic import explained, replacing
from egeunet.model.errors import InputError


class ResultsLog(Closing):
    """Appends records, each on disk before the next begins; a context manager.

    Args:
        path: the .jsonl file; a line cut off by a crash has been removed by :func:`resume`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            self._file = path.open("ab")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line and wait until it is on the disk."""
        line = json.dumps(record, allow_nan=False) + "\n"  # ASCII, whatever the file names are
        with explained(self._path):
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; every record is on the disk already."""
        self._file.close()


def resume(
    path: Path, pictures: Sequence[Picture], made_by: Mapping[str, Any], *, overwrite: bool = False
) -> set[str]:
    """Bring the log of an earlier run in order and say what need not be done again.

    Kept are lines of finished images (same model, threshold and source file, both
    pictures there), and lines of other images whose pictures this run does not write.
    A last line that a crash has cut off goes.

    Args:
        path: the .jsonl file; it need not exist.
        pictures: what this run is to predict.
        made_by: what must stand in a record for its image to count as finished.
        overwrite: count nothing as finished.

    Returns:
        The ``file`` of each finished picture.

    Raises:
        InputError: a line, not the last, is no record of ours.
    """
    if not path.exists():
        return set()
    wanted = {picture.file: picture for picture in pictures}
    written = {picture.mask for picture in pictures}
    finished: set[str] = set()
    with replacing(path) as temporary, temporary.open("wb") as kept:
        for line, record in _records(path):
            picture = wanted.get(record["file"]) if record else None
            if picture is not None:
                keep = picture.file not in finished and not overwrite
                keep = keep and _is_finished(record, picture, path.parent, made_by)
            else:
                keep = bool(record) and record.get("mask") not in written
            if keep:
                kept.write(line)
                if picture is not None:
                    finished.add(picture.file)
    return finished


def source_identity(picture: Picture) -> dict[str, int]:
    """Size and time of the source file: another file under the same name is another image.

    Raises:
        InputError: the file is gone.
    """
    try:
        status = picture.source.stat()
    except OSError as error:
        raise InputError(f"{picture.source}: cannot be read ({error.strerror})") from error
    return {"image_bytes": status.st_size, "image_mtime_ns": status.st_mtime_ns}


def remove_leftovers(log: Path, pictures: Sequence[Picture]) -> None:
    """Remove the temporary folders that a killed run left of this log and these pictures."""
    outputs = [log.name, *(name for p in pictures for name in (p.mask, p.overlay))]
    by_folder: dict[str, set[str]] = {}
    for output in outputs:
        folder, _, name = output.rpartition("/")
        by_folder.setdefault(folder, set()).add(name)
    for folder, names in by_folder.items():
        for entry in (log.parent / folder).glob(".*.partial"):
            target = entry.name[1:].rsplit(".", 2)[0]  # .NAME.RANDOM.partial
            if target in names:
                shutil.rmtree(entry, ignore_errors=True)


def _is_finished(
    record: dict[str, Any], picture: Picture, out: Path, made_by: Mapping[str, Any]
) -> bool:
    try:
        expected = {"mask": picture.mask, "overlay": picture.overlay, **made_by}
        expected |= source_identity(picture)
    except InputError:
        return False  # it is reported when its turn comes
    same = all(record.get(key) == value for key, value in expected.items())
    return same and (out / picture.mask).is_file() and (out / picture.overlay).is_file()


def _records(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each whole line with its record; {} for a line that a crash has cut off."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                yield line, {}
                return
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or not isinstance(record.get("file"), str):
                raise InputError(
                    f"{path} line {number}: not a result of egeunet-predict: {line[:40]!r}; "
                    "move the file away or choose another folder"
                )
            yield line, record
