"""The pictures that decisions about a quantization are measured on: held-out training ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from egeunet.model.data.cache import open_cache
from egeunet.model.data.dataset import KNOWN_LEAKS, find_dataset, hold_out, without
from egeunet.model.data.prepared import PreparedData, decode, is_cache
from egeunet.model.errors import InputError

#: As in training: every so-many-th picture by id (docs/decisions.md 10).
EVERY = 15


def held_out_pictures(
    folder: Path,
    height: int,
    width: int,
    *,
    split: str | None = None,
    every: int = EVERY,
    limit: int | None = None,
    progress: bool = False,
) -> PreparedData:
    """Pictures with masks that no file was trained on and no result is reported on.

    Args:
        folder: a data folder or a cache of egeunet-data prepare.
        height, width: size to give.
        split: all of this split; None = the part of "train" that training holds out, or of
            everything where nothing divides the folder.
        every: each ``every``-th is held out.
        limit: at most so many, evenly spread.
        progress: show a bar.

    Raises:
        InputError: the test split is asked for, no training part, a bad number, or whatever is
            wrong with the folder.
    """
    if split is not None and split.lower().startswith("test"):
        raise InputError(
            f"--split {split}: test images must decide nothing; leave --split out to use the "
            "held-out part of the training images"
        )
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be 1 or more, got {limit}")
    if is_cache(folder):
        data = open_cache(folder)
        ids = _chosen(dict(zip(data.ids, data.splits, strict=True)), folder, split, every, limit)
        return data.select(ids).resized(height, width)
    dataset = find_dataset(folder)
    of = {sample.id: sample.split for sample in dataset.samples}
    ids = _chosen(of, folder, split, every, limit)
    samples = {sample.id: sample for sample in dataset.samples}
    part = replace(dataset, samples=tuple(samples[id] for id in ids))
    return decode(part, height, width, progress=progress)


def _chosen(
    splits: dict[str, str], folder: Path, split: str | None, every: int, limit: int | None
) -> tuple[str, ...]:
    """Ids out of a map from id to split; see :func:`held_out_pictures`."""
    present = sorted(set(splits.values()))
    part = split or ("train" if "train" in present else "all")
    ids = tuple(sorted(id for id, of in splits.items() if of == part))
    if not ids:
        raise InputError(
            f"{folder}: no split {part!r}, it has {', '.join(present)}; give --split (not test)"
        )
    if split is None:
        ids = hold_out(without(ids, KNOWN_LEAKS), every)[1]
    count = min(limit or len(ids), len(ids))
    places = np.linspace(0, len(ids) - 1, count).round().astype(int)
    return tuple(ids[place] for place in places)
