"""Pictures for a report: where each file's masks are worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.crew import Crew
from egeunet.benchmarks.labelled_images import LabelledImages
from egeunet.benchmarks.report.pictures import (
    Evidence,
    difference_picture,
    picture_entry,
    worst_picture,
)
from egeunet.model.errors import InputError


def pictures_of(
    rows: Sequence[dict[str, Any]], crew: Crew, images: LabelledImages
) -> list[dict[str, str]]:
    """The worst image of each file (in its first runtime): outlines, and the difference map.

    Args:
        rows: of the report, with their worst images named.
        crew: with the processes still open.
        images: those that were measured.
    """
    found: list[dict[str, str]] = []
    seen: set[Path] = set()
    contract = crew.opened[crew.reference].contract
    by_id = dict(images.items)
    for row in rows[1:]:
        path = crew.candidates[row["id"]].path
        if path in seen or not row["accuracy"]["worst"]:
            continue
        seen.add(path)
        worst = row["accuracy"]["worst"][0]
        image, mask = by_id[worst["image"]](contract.height, contract.width)
        expected = crew.workers[crew.reference].ask("probability", image[None])[0, ..., 0]
        try:
            actual = crew.workers[row["id"]].ask("probability", image[None])[0, ..., 0]
        except InputError:  # the row says why; here it is drawn as no value at all
            actual = np.full(expected.shape, np.nan, np.float32)
        evidence = Evidence(image, mask, expected, actual, contract.threshold)
        title = f"{row['file']} in {row['runtime']}: {worst['image']}"
        title += f", IoU with the reference's mask {worst['mask_iou']:.3f}"
        found.append(picture_entry("worst", title, row["id"], worst_picture(evidence)))
        difference = difference_picture(evidence)
        found.append(picture_entry("difference", title, row["id"], difference))
    return found
