"""Images with masks to score a model on, loaded one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.sharding import Shard
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

#: Name of the data in reports where no folder was given.
SYNTHETIC = "synthetic"
#: How many of those where no number is given.
DEFAULT_COUNT = 32
_SYNTHETIC_SEED = 2023


class LabelledImage(NamedTuple):
    """One image at the model's size.

    Attributes:
        id: name in the report.
        image: uint8 (H, W, 3), RGB.
        mask: bool (H, W), True is lesion.
    """

    id: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


Load = Callable[[int, int], tuple[NDArray[np.uint8], NDArray[np.bool_]]]


@dataclass(frozen=True)
class LabelledImages:
    """A data set as names and ways to load: no pixel is held.

    Attributes:
        name: name of the folder, or "synthetic".
        split: name of the split, "all" for everything.
        layout: how the folder is laid out, in words.
        items: pairs of an id and a function (height, width) -> (image, mask).
    """

    name: str
    split: str
    layout: str
    items: tuple[tuple[str, Load], ...]

    def take(self, shard: Shard, limit: int | None = None) -> LabelledImages:
        """The first ``limit`` images, and of those the ones of this shard.

        Raises:
            InputError: a limit below 1, or nothing left.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit must be at least 1, got {limit}")
        items = tuple(shard.select(self.items[:limit]))
        if not items:
            raise InputError(f"shard {shard} of {len(self.items)} images is empty; use fewer")
        return replace(self, items=items)

    def load(self, contract: ModelContract) -> Iterator[LabelledImage]:
        """Load each image and mask at the contract's size, one at a time."""
        for id, load in self.items:
            yield LabelledImage(id, *load(contract.height, contract.width))

    def __str__(self) -> str:
        return f"{self.name}, split {self.split}, {len(self.items)} images ({self.layout})"


def labelled_folder(
    root: str | Path, split: str | None = None, split_csv: str | Path | None = None
) -> LabelledImages:
    """The images of a folder that have masks.

    Args:
        root: any layout that :func:`egeunet.model.data.dataset.find_dataset` knows.
        split: a split's name or "all"; None = "test" if there is one, else "all".
        split_csv: a CSV of id and split.

    Raises:
        InputError: no data set there, a mask missing, or no such split.
    """
    from egeunet.model.data.dataset import Sample, find_dataset, load_sample

    dataset = find_dataset(root, split_csv=split_csv)
    if split is None:
        split = "test" if "test" in dataset.splits else "all"
    samples = dataset.samples if split == "all" else dataset.split(split)

    def loader(sample: Sample) -> Load:
        return lambda height, width: load_sample(sample, height, width)

    items = tuple((sample.id, loader(sample)) for sample in samples)
    return LabelledImages(Path(root).resolve().name, split, dataset.layout, items)


def synthetic_images(count: int = DEFAULT_COUNT) -> LabelledImages:
    """Pictures of the deterministic generator, where there is no folder of real ones."""
    from egeunet.model.data.resize import resize_image, resize_mask
    from egeunet.model.data.synthetic import synthetic_sample

    def loader(index: int) -> Load:
        def load(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
            image, mask = synthetic_sample(index, max(height, width), _SYNTHETIC_SEED)
            return resize_image(image, height, width), resize_mask(mask, height, width)

        return load

    items = tuple((f"synthetic_{index:05d}", loader(index)) for index in range(count))
    return LabelledImages(SYNTHETIC, "all", "deterministic generator, not real images", items)
