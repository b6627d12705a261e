"""Pictures and masks of one size as arrays: what training and evaluation work on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egeunet.model.data.dataset import KNOWN_LEAKS, Dataset, Sample, load_sample, without
from egeunet.model.data.resize import check_sides, resize_image, resize_mask
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class PreparedData:
    """Pictures of one size in memory or memory-mapped (then read-only).

    Attributes:
        images: uint8 RGB (N, H, W, 3).
        masks: bool (N, H, W), True is lesion.
        ids, splits: N names each, in the order of the arrays.

    Raises:
        InputError: arrays and names that do not belong together.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    ids: tuple[str, ...]
    splits: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "splits", tuple(self.splits))
        images, masks, count = self.images, self.masks, len(self.ids)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(
                f"images must be uint8 (N, H, W, 3), got {images.dtype} {images.shape}"
            )
        if masks.dtype != np.bool_ or masks.shape != images.shape[:3]:
            raise InputError(
                f"masks must be bool {images.shape[:3]}, got {masks.dtype} {masks.shape}"
            )
        if not len(images) == len(self.splits) == count:
            raise InputError(f"{len(images)} images, {count} ids and {len(self.splits)} splits")
        if len(set(self.ids)) != count:
            raise InputError(f"duplicate id {Counter(self.ids).most_common(1)[0][0]!r}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.images.shape[1], self.images.shape[2]

    def split(self, name: str) -> tuple[str, ...]:
        """The ids of one split.

        Raises:
            InputError: there is no such split.
        """
        found = tuple(id for id, of in zip(self.ids, self.splits, strict=True) if of == name)
        if not found:
            raise InputError(f"no split {name!r}; there are {sorted(set(self.splits))}")
        return found

    def training_ids(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The ids that may train, and those left out because they equal a test image.

        Of the split "train" if there is one, else of all.
        """
        ids = self.split("train") if "train" in self.splits else self.ids
        kept = without(ids, KNOWN_LEAKS)
        return kept, tuple(sorted(set(ids) - set(kept)))

    def select(self, ids: Sequence[str]) -> PreparedData:
        """The given ids in the given order, copied into memory.

        Raises:
            InputError: an unknown id.
        """
        where = {id: index for index, id in enumerate(self.ids)}
        unknown = [id for id in ids if id not in where]
        if unknown:
            raise InputError(f"unknown id {unknown[0]!r} ({len(unknown)} of {len(ids)} unknown)")
        rows = [where[id] for id in ids]
        splits = tuple(self.splits[row] for row in rows)
        return PreparedData(self.images[rows], self.masks[rows], tuple(ids), splits)

    def resized(self, height: int, width: int) -> PreparedData:
        """The same pictures smaller; itself where the size is the same.

        Raises:
            InputError: for a larger size, which would invent detail, or one out of range.
        """
        check_sides(height, width)
        if self.size == (height, width):
            return self
        if height > self.size[0] or width > self.size[1]:
            raise InputError(
                f"prepared at {self.size[0]}x{self.size[1]}, asked for {height}x{width}; "
                "prepare the raw images again at that size"
            )
        images = np.empty((len(self), height, width, 3), dtype=np.uint8)
        masks = np.empty((len(self), height, width), dtype=np.bool_)
        for row in range(len(self)):  # one at a time: the arrays may be larger than memory
            images[row] = resize_image(np.asarray(self.images[row]), height, width)
            masks[row] = resize_mask(np.asarray(self.masks[row]), height, width)
        return PreparedData(images, masks, self.ids, self.splits)


def chosen(dataset: Dataset, splits: Sequence[str] | None) -> tuple[Sample, ...]:
    """The samples of the named splits, all where None; an unknown split is an InputError."""
    if splits is None:
        return dataset.samples
    return tuple(sample for name in dict.fromkeys(splits) for sample in dataset.split(name))


def loaded(
    samples: Sequence[Sample], height: int, width: int, progress: bool
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Each sample at (height, width), one in memory at a time, with a progress bar."""
    from tqdm import tqdm

    # None: a bar on a terminal, silence in a log file.
    for sample in tqdm(samples, "resizing", unit="image", disable=None if progress else True):
        yield load_sample(sample, height, width)


def decode(
    dataset: Dataset,
    height: int,
    width: int,
    splits: Sequence[str] | None = None,
    progress: bool = False,
) -> PreparedData:
    """Read and resize a raw data set into memory: H * W * 4 bytes per picture, no more.

    Raises:
        InputError: an unreadable file, a missing mask, a size mismatch, an unknown split.
    """
    check_sides(height, width)
    samples = chosen(dataset, splits)
    images = np.empty((len(samples), height, width, 3), dtype=np.uint8)
    masks = np.empty((len(samples), height, width), dtype=np.bool_)
    for row, (image, mask) in enumerate(loaded(samples, height, width, progress)):
        images[row], masks[row] = image, mask
    ids = tuple(sample.id for sample in samples)
    return PreparedData(images, masks, ids, tuple(sample.split for sample in samples))


def is_cache(folder: str | Path) -> bool:
    """Whether the folder was made by ``egeunet-data prepare`` (its index is there)."""
    return (Path(folder) / "index.json").is_file()
