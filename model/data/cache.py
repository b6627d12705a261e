"""A data set resized once: images.npy, masks.npy and index.json in one folder.

The arrays are plain .npy files, so they can be memory-mapped; the index holds their
SHA-256, ids and splits. The folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from egeunet.model.data.dataset import Dataset, Sample, find_dataset
from egeunet.model.data.folders import new_folder
from egeunet.model.data.prepared import PreparedData, chosen, decode, is_cache, loaded
from egeunet.model.data.resize import check_sides
from egeunet.model.errors import InputError, OutputError

SCHEMA_VERSION = 1
_FORMAT = "egeunet prepared data"


def load_prepared(
    data_dir: str | Path,
    height: int,
    width: int,
    *,
    splits: Sequence[str] | None = None,
    split_csv: str | Path | None = None,
    progress: bool = False,
) -> PreparedData:
    """Open a cache folder, or decode a raw data folder into memory.

    A cache of the size asked for stays memory-mapped; a larger one is scaled down.

    Raises:
        InputError: whatever is wrong with the folder; a cache smaller than asked for;
            an unknown split; a split CSV given for a cache (its splits are fixed).
    """
    if not is_cache(data_dir):
        dataset = find_dataset(data_dir, split_csv=split_csv)
        return decode(dataset, height, width, splits, progress)
    if split_csv is not None:
        raise InputError(f"{data_dir} is a cache; give --split-csv to egeunet-data prepare")
    data = open_cache(data_dir)
    try:
        if splits is not None:
            data = data.select([id for name in dict.fromkeys(splits) for id in data.split(name)])
        return data.resized(height, width)
    except InputError as error:
        raise InputError(f"{data_dir}: {error}") from error


def prepare(
    dataset: Dataset,
    out: str | Path,
    height: int,
    width: int,
    splits: Sequence[str] | None = None,
    progress: bool = True,
) -> PreparedData:
    """Resize a data set once into the cache folder ``out`` and open it.

    Only one picture is in memory at a time. If ``out`` is a complete cache of the same
    files at the same size it is opened and nothing is written.

    Raises:
        InputError: an unreadable file, a missing mask, a size mismatch, an unknown split.
        OutputError: ``out`` holds anything else, cannot be written, or the disk is full.
    """
    check_sides(height, width)
    samples = chosen(dataset, splits)
    source = _fingerprint(samples, height, width)
    if is_cache(out):
        if _read_index(Path(out)).get("source") == source:
            return open_cache(out)
        raise OutputError(
            f"{out} is a cache of other files or of another size; remove it or choose another"
        )
    with new_folder(out) as folder:
        index = {
            "format": _FORMAT,
            "schema_version": SCHEMA_VERSION,
            "layout": dataset.layout,
            "source": source,
            "height": height,
            "width": width,
            "ids": [sample.id for sample in samples],
            "splits": [sample.split for sample in samples],
        }
        with (
            (folder / "images.npy").open("wb") as images,
            (folder / "masks.npy").open("wb") as masks,
        ):
            shape = (len(samples), height, width)
            hashes = _Hashed(images, np.uint8, (*shape, 3)), _Hashed(masks, np.bool_, shape)
            for pair in loaded(samples, height, width, progress):
                for writer, array in zip(hashes, pair, strict=True):
                    writer.write(np.ascontiguousarray(array).tobytes())
        index["sha256"] = {"images": hashes[0].hexdigest(), "masks": hashes[1].hexdigest()}
        (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return open_cache(out, verify=False)


def open_cache(path: str | Path, *, verify: bool = True) -> PreparedData:
    """Memory-map a folder written by :func:`prepare`.

    Args:
        verify: also compare the SHA-256 of the arrays (reads them once).

    Raises:
        InputError: not such a folder, truncated or altered arrays, an index that belongs
            to other arrays.
    """
    path = Path(path)
    index = _read_index(path)
    arrays = {name: _map(path / f"{name}.npy") for name in ("images", "masks")}
    try:
        data = PreparedData(
            arrays["images"], arrays["masks"], tuple(index["ids"]), tuple(index["splits"])
        )
        if data.size != (index["height"], index["width"]):
            raise InputError(f"images are {data.size}, the index says another size")
        for name in arrays if verify else ():
            if _sha256(path / f"{name}.npy") != index["sha256"][name]:
                raise InputError(f"{name}.npy was altered or belongs to another index.json")
    except InputError as error:
        raise InputError(f"{path}: broken cache: {error}; prepare it again") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: broken cache: index.json lacks {error}") from error
    return data


class _Hashed:
    """A .npy file written piece by piece, hashed on its way to the disk.

    Not a memory map: a full disk must be an OSError, and there it would be a bus error.
    """

    def __init__(self, file: IO[bytes], dtype: type, shape: tuple[int, ...]) -> None:
        self._file, self._hash = file, hashlib.sha256()
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, header)

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _map(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap):
            raise ValueError("not an array file")
        return array
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing from the cache; prepare it again") from error
    except Exception as error:  # numpy raises whatever a broken header provokes
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: broken array file ({reason}); prepare it again") from error


def _read_index(path: Path) -> dict[str, Any]:
    file = path / "index.json"
    if not file.is_file():
        raise InputError(f"{path}: not a cache of egeunet-data prepare (no index.json)")
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable JSON ({error}); prepare it again") from error
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise InputError(f"{file}: not the index of a cache; give the folder of the images")
    if index.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{file}: schema_version {index.get('schema_version')!r}; prepare it again"
        )
    return index


def _fingerprint(samples: Sequence[Sample], height: int, width: int) -> str:
    """Changes with the ids, splits, files' sizes and times, and the size asked for."""
    digest = hashlib.sha256(f"{SCHEMA_VERSION} {height} {width}".encode())
    for sample in samples:
        digest.update(f"\0{sample.id}\0{sample.split}".encode())
        for file in (sample.image, sample.mask):
            if file is None or not file.is_file():
                raise InputError(f"{sample.image}: image or mask is missing ({file})")
            state = file.stat()
            digest.update(f"\0{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
