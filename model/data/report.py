"""What a data folder holds and what is wrong with it, all at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.model.data.dataset import Sample, scan_dataset, size_problem
from egeunet.model.data.images import read_header, read_image, read_mask
from egeunet.model.data.splits import KNOWN_LEAKS
from egeunet.model.errors import InputError

_SHOWN = 20
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass
class DataReport:
    """The findings of :func:`examine`; JSON-ready by ``asdict``.

    Attributes:
        sizes, modes, formats: how many images have each ("767x1022", "RGB", "JPEG").
        lesion_area: quantiles of the share of lesion pixels ("0.5" is the median).
        constant_masks: masks that are all lesion or all skin.
        problems: one line each; with any of them commands refuse the folder.
    """

    root: str
    layout: str
    images: int
    masks: int
    splits: dict[str, int]
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    lesion_area: dict[str, float] = field(default_factory=dict)
    constant_masks: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    schema_version: int = 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as text, the first 20 problems last."""
        text = [
            f"folder   {self.root}",
            f"layout   {self.layout}",
            f"images   {self.images}, {self.masks} with a mask",
            f"splits   {_counted(self.splits)}",
            f"sizes    {_counted(self.sizes)}",
            f"modes    {_counted(self.modes)} ({_counted(self.formats)})",
        ]
        if self.lesion_area:
            quantiles = "  ".join(
                f"{float(q):.0%} {area:.4f}" for q, area in self.lesion_area.items()
            )
            text.append(f"lesion   area fraction by quantile: {quantiles}")
            text.append(f"         {self.constant_masks} constant masks (all lesion or all skin)")
        text += [f"note     {note}" for note in self.notes]
        text += [f"problem  {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            text.append(f"problem  +{len(self.problems) - _SHOWN} more")
        text.append(f"{len(self.problems) or 'no'} problem{'s' * (len(self.problems) != 1)}")
        return text


def examine(
    root: str | Path,
    require_masks: bool = True,
    split_csv: str | Path | None = None,
    progress: bool = False,
) -> DataReport:
    """Decode every image and mask of a folder and report all that is wrong.

    Raises:
        InputError: no data set can be recognised at all (folder missing, no layout fits).
    """
    from tqdm import tqdm

    found = scan_dataset(Path(root), require_masks, split_csv)
    report = DataReport(
        root=str(root),
        layout=found.layout,
        images=len(found.samples),
        masks=sum(sample.mask is not None for sample in found.samples),
        splits=dict(Counter(sample.split for sample in found.samples)),
        problems=list(found.problems),
    )
    areas: list[float] = []
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("sizes", "modes", "formats")}
    for sample in tqdm(found.samples, "checking", unit="image", disable=None if progress else True):
        _examine_one(sample, report, areas, counts)
    for name, counter in counts.items():
        setattr(report, name, dict(counter.most_common()))
    if areas:
        values = np.quantile(areas, _QUANTILES)
        report.lesion_area = {
            str(q): round(float(v), 6) for q, v in zip(_QUANTILES, values, strict=True)
        }
        report.constant_masks = sum(area in (0.0, 1.0) for area in areas)
    leaks = sorted({s.id for s in found.samples if s.split == "train"} & KNOWN_LEAKS)
    report.notes += [
        f"{id} (train) is the same picture as ISIC_0012127 (test): leave it out of training"
        for id in leaks
    ]
    return report


def _examine_one(
    sample: Sample, report: DataReport, areas: list[float], counts: dict[str, Counter[str]]
) -> None:
    try:
        header = read_header(sample.image)
        counts["sizes"][f"{header.width}x{header.height}"] += 1
        counts["modes"][header.mode] += 1
        counts["formats"][header.format] += 1
        read_image(sample.image)
    except InputError as error:
        report.problems.append(str(error))
    if sample.mask is None:
        return
    try:
        mask = read_mask(sample.mask)
    except InputError as error:
        report.problems.append(str(error))
        return
    areas.append(float(mask.mean()))
    try:
        mismatch = size_problem(sample)
    except InputError:
        return  # the unreadable image was reported above
    if mismatch is not None:
        report.problems.append(mismatch)


def _counted(counts: dict[str, int], most: int = 6) -> str:
    text = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:most])
    return f"{text}, +{len(counts) - most} more" if len(counts) > most else text or "none"
