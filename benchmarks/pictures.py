"""The images that a prediction reads, and the names of the files that it writes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from egeunet.model.data.images import EXTENSIONS
from egeunet.model.errors import InputError

#: Lie among the images of the ISIC archives and are no images of lesions.
_NOT_IMAGES = ("_superpixels", "_segmentation")


@dataclass(frozen=True)
class Picture:
    """One image to predict.

    Attributes:
        source: where it lies.
        file: its name in the results: relative to the input folder, with slashes.
        name: what its outputs are called, relative to the output folder, no ending.
    """

    source: Path
    file: str
    name: str

    @property
    def mask(self) -> str:
        """Name of the mask picture, relative to the output folder."""
        return f"{self.name}_mask.png"

    @property
    def overlay(self) -> str:
        """Name of the overlay picture, relative to the output folder."""
        return f"{self.name}_overlay.png"


def find_pictures(source: str | Path, out: str | Path) -> tuple[Picture, ...]:
    """One image, or all images of a folder and its subfolders, in a fixed order.

    Left out: hidden files and folders, ``*_superpixels`` and ``*_segmentation`` of the
    ISIC archives, and the output folder if it lies inside.

    Raises:
        InputError: nothing there, no image in it, or output into the folder itself.
    """
    source, out = Path(source), Path(out)
    if source.is_file():
        return (Picture(source, source.name, source.stem),)
    if not source.is_dir():
        raise InputError(f"image or folder not found: {source}")
    if source.resolve() == out.resolve():
        raise InputError(f"{out} is the folder of the images; choose another output folder")
    files = _walk(source, out.resolve())
    if not files:
        raise InputError(f"{source}: no images ({', '.join(EXTENSIONS)})")
    return tuple(
        Picture(source / file, file, name)
        for file, name in zip(files, output_names(files), strict=True)
    )


def output_names(files: Sequence[str]) -> tuple[str, ...]:
    """A name without ending for each file, no two the same.

    The subfolder is kept and the ending dropped; where that would give two files one
    name (a.jpg and a.png), these keep their endings (a.jpg_mask.png). Case is ignored,
    as some file systems do. The names depend on the set of files, not on a shard.
    """
    names = [str(PurePosixPath(file).with_suffix("")) for file in files]
    while True:
        groups = defaultdict(list)
        for index, name in enumerate(names):
            groups[name.casefold()].append(index)
        clashing = [
            index
            for group in groups.values()
            if len(group) > 1
            for index in group
            if names[index] != files[index]
        ]
        if not clashing:
            return tuple(names)
        for index in clashing:
            names[index] = files[index]


def _walk(source: Path, out: Path) -> list[str]:
    def unreadable(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error

    found = []
    for folder, subfolders, files in os.walk(source, onerror=unreadable):
        here = Path(folder)
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and (here / name).resolve() != out
        ]
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
                continue
            if not path.stem.endswith(_NOT_IMAGES):
                found.append(path.relative_to(source).as_posix())
    return sorted(found)
