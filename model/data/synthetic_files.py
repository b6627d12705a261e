"""Synthetic pictures as PNG files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from tqdm import tqdm

from egeunet.model.data.folders import new_folder
from egeunet.model.data.synthetic import synthetic_ids, synthetic_sample
from egeunet.model.errors import InputError


def write_synthetic(out: str | Path, count: int, size: int = 256, seed: int = 0) -> None:
    """Write images/synthetic_0000.png, masks/synthetic_0000.png (0/255) and so on.

    Raises:
        InputError: an argument out of range.
        OutputError: ``out`` exists and is not an empty folder, or cannot be written.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    with new_folder(out) as folder:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        for index, id in enumerate(tqdm(synthetic_ids(count), "drawing", disable=None)):
            image, mask = synthetic_sample(index, size, seed)
            Image.fromarray(image).save(folder / "images" / f"{id}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{id}.png")
