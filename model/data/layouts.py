"""The folder layouts that are understood, and what is found in them.

isic      ISIC 2017 or 2018 Task 1 archives as they unpack, side by side
split     train/images, train/masks, val/..., test/... (any folder names)
plain     images/ and masks/
flat      pictures directly in the folder (only where no masks are required)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from egeunet.model.data.images import EXTENSIONS
from egeunet.model.data.sample import Sample, check_id
from egeunet.model.errors import InputError

LAYOUTS = """\
expected ISIC 2017/2018 archives, or train/images + train/masks, or images + masks\
"""
_SPLITS = {"Training": "train", "Validation": "val", "Test": "test", "Test_v2": "test"}
#: Year, images folder, its masks folder; the part's name goes into the braces.
_ISIC = (
    ("ISIC 2017", "ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"),
    ("ISIC 2018", "ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"),
)
_MASK_SUFFIX = re.compile(r"_(segmentation|mask)$")
#: Lie among the images of the archives and are neither images nor masks of their own.
_NOT_IMAGES = re.compile(r"_(superpixels|segmentation)$")


@dataclass(frozen=True)
class Part:
    """One folder of images and where its masks are."""

    split: str
    images: Path
    masks: Path | None


@dataclass
class Scan:
    """What was found, and one line about each thing that is wrong."""

    layout: str
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def scan(root: Path, require_masks: bool) -> Scan:
    """List the pictures under ``root`` and pair them with masks; only names are read.

    Raises:
        InputError: ``root`` is missing or a file, or no layout or more than one fits.
    """
    if not root.exists():
        raise InputError(f"data folder not found: {root}")
    if not root.is_dir():
        raise InputError(f"{root} is a file; expected a data folder")
    try:
        layout, parts = _recognise(root, require_masks)
        found = Scan(layout)
        origin: dict[str, Path] = {}
        for part in parts:
            _pair(part, require_masks, found, origin)
    except OSError as error:
        raise InputError(f"{error.filename or root}: cannot be read ({error.strerror})") from error
    if not found.samples and not found.problems:
        found.problems.append(f"{root}: no images ({', '.join(EXTENSIONS)}); {LAYOUTS}")
    return found


def _recognise(root: Path, require_masks: bool) -> tuple[str, list[Part]]:
    fitting = {name: parts for name, *_ in _ISIC if (parts := _isic_parts(root, name))}
    divided = [
        Part(folder.name, folder / "images", folder / "masks")
        for folder in sorted(root.iterdir())
        if not folder.name.startswith(".") and (folder / "images").is_dir()
    ]
    if divided:
        # The usual order where the names are the usual ones.
        rank = {"train": 0, "val": 1, "test": 2}
        divided.sort(key=lambda part: rank.get(part.split, 3))
        fitting["/".join(part.split for part in divided) + " folders"] = divided
    if (root / "images").is_dir():
        fitting["images + masks"] = [Part("all", root / "images", root / "masks")]
    if len(fitting) > 1:
        raise InputError(f"{root}: several layouts at once: {', '.join(fitting)}; keep one each")
    if fitting:
        return fitting.popitem()
    if require_masks:
        raise InputError(f"{root}: no data set found; {LAYOUTS}")
    return "flat folder of images", [Part("all", root, None)]


def _isic_parts(root: Path, year: str) -> list[Part]:
    images, masks = next((images, masks) for name, images, masks in _ISIC if name == year)
    parts = []
    for part, split in _SPLITS.items():
        folder, truth = root / images.format(part), root / masks.format(part)
        if folder.is_dir() or truth.is_dir():
            parts.append(Part(split, _unnested(folder), _unnested(truth)))
    return parts


def _unnested(folder: Path) -> Path:
    """Some unpackers put the archive's folder into a folder of the same name."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def _pair(part: Part, require_masks: bool, found: Scan, origin: dict[str, Path]) -> None:
    """Add the pictures of one part; ``origin`` has the picture of every id so far."""
    if not part.images.is_dir():
        found.problems.append(f"images folder not found: {part.images} (its masks are there)")
        return
    images = _listing(part.images, found.problems)
    masks: dict[str, Path] = {}
    if part.masks is not None and part.masks.is_dir():
        masks = _listing(part.masks, found.problems, images)
    elif require_masks:
        found.problems.append(f"masks folder not found: {part.masks}")
        require_masks = False  # said once, not for every image
    for id, image in images.items():
        if id in origin:
            found.problems.append(f"duplicate id {id!r}: {origin[id]} and {image}")
            continue
        origin[id] = image
        found.samples.append(Sample(id, image, masks.get(id), part.split))
        if require_masks and id not in masks:
            found.problems.append(f"missing mask of {image}: no {id}.png in {part.masks}")
    if require_masks:
        found.problems += [
            f"mask without image: {mask}; no {id}.jpg or the like in {part.images}"
            for id, mask in masks.items()
            if id not in images
        ]


def _listing(
    folder: Path, problems: list[str], images: dict[str, Path] | None = None
) -> dict[str, Path]:
    """The image files of a folder by id, sorted; with ``images``, the masks of those."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
            continue
        id = path.stem
        if images is None and _NOT_IMAGES.search(id):
            continue
        if images is not None and id not in images:
            if id.endswith("_superpixels"):
                continue
            id = _MASK_SUFFIX.sub("", id)
        try:
            check_id(id)
        except InputError as error:
            problems.append(f"{folder}: {error}")
            continue
        if id in files:
            problems.append(f"duplicate id {id!r}: {files[id]} and {path}")
            continue
        files[id] = path
    return files
