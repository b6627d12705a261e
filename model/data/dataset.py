"""A folder of pictures and masks as a list of samples, whatever its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egeunet.model.data.images import read_header, read_image, read_mask
from egeunet.model.data.layouts import Scan, scan
from egeunet.model.data.resize import check_sides, resize_image, resize_mask
from egeunet.model.data.sample import Dataset, Sample
from egeunet.model.data.splits import (
    KNOWN_LEAKS,
    apply_splits,
    find_split_csv,
    hold_out,
    read_splits,
    without,
)
from egeunet.model.errors import InputError

__all__ = [
    "KNOWN_LEAKS",
    "Dataset",
    "Sample",
    "find_dataset",
    "hold_out",
    "load_images",
    "load_sample",
    "scan_dataset",
    "size_problem",
    "without",
]


def find_dataset(
    root: str | Path, *, require_masks: bool = True, split_csv: str | Path | None = None
) -> Dataset:
    """Find the pictures under ``root``, their masks and splits; no pixel is read.

    Args:
        root: a folder in one of the layouts of :mod:`egeunet.model.data.layouts`.
        require_masks: False also takes a flat folder of images, and images without masks.
        split_csv: columns id and split; None takes the one ``split*.csv`` in ``root``,
            if there is one. It overrides the splits of the folders; an image that it does
            not name gets the split "unlisted".

    Raises:
        InputError: folder missing, a file or empty; mask missing or without image;
            duplicate id; anything wrong with the split CSV. The first problem is named.
    """
    found = scan_dataset(Path(root), require_masks, split_csv)
    if found.problems:
        more = len(found.problems) - 1
        rest = f" (and {more} more: run egeunet-data check {root})" if more else ""
        raise InputError(found.problems[0] + rest)
    return Dataset(Path(root), tuple(found.samples), found.layout)


def scan_dataset(root: Path, require_masks: bool, split_csv: str | Path | None) -> Scan:
    """As :func:`find_dataset`, but with all problems listed instead of the first raised."""
    found = scan(root, require_masks)
    path = Path(split_csv) if split_csv is not None else find_split_csv(root)
    if path is not None:
        rows, problems = read_splits(path)
        found.samples, unknown = apply_splits(found.samples, rows, path)
        found.problems += problems + unknown
        found.layout += f", splits of {path.name}"
    return found


def load_sample(
    sample: Sample, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read one picture with its mask and squash both to (height, width).

    Returns:
        uint8 RGB (height, width, 3) and bool (height, width), True is lesion.

    Raises:
        InputError: no mask, an unreadable file, or sizes that differ before resizing.
    """
    if sample.mask is None:
        raise InputError(f"{sample.image}: has no mask")
    image, mask = read_image(sample.image), read_mask(sample.mask)
    if image.shape[:2] != mask.shape:
        raise InputError(_differ(sample, image.shape[1::-1], mask.shape[::-1]))
    return resize_image(image, height, width), resize_mask(mask, height, width)


def load_images(samples: Sequence[Sample], height: int, width: int) -> NDArray[np.uint8]:
    """Read pictures only, masks or not: uint8 RGB (N, height, width, 3).

    Raises:
        InputError: an unreadable file, a side out of range.
    """
    check_sides(height, width)
    images = np.empty((len(samples), height, width, 3), dtype=np.uint8)
    for index, sample in enumerate(samples):
        images[index] = resize_image(read_image(sample.image), height, width)
    return images


def size_problem(sample: Sample) -> str | None:
    """A line about a mask of another size than its image, from the two headers alone.

    Raises:
        InputError: an unreadable header.
    """
    if sample.mask is None:
        return None
    image, mask = read_header(sample.image), read_header(sample.mask)
    if (image.width, image.height) == (mask.width, mask.height):
        return None
    return _differ(sample, (image.width, image.height), (mask.width, mask.height))


def _differ(sample: Sample, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    turned = " (turned by 90 degrees: does one carry an EXIF rotation?)"
    return (
        f"size mismatch: {sample.image} is {image[0]}x{image[1]}, its mask {sample.mask} is "
        f"{mask[0]}x{mask[1]}{turned if image == mask[::-1] else ''}"
    )
