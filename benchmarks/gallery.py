"""A picture for people: images in rows, masks of the truth and of each model in columns."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from egeunet.benchmarks.labelled_images import LabelledImages
from egeunet.benchmarks.overlay import overlay
from egeunet.export.runners import Runner

_GAP, _HEADER = 4, 22


def gallery(runners: Mapping[str, Runner], images: LabelledImages, count: int) -> bytes:
    """A PNG with ``count`` rows: image, ground truth, and the overlay of every model.

    Args:
        runners: by column title; all of one input size.
        images: the first ``count`` are drawn.
    """
    contract = next(iter(runners.values())).contract
    height, width = contract.height, contract.width
    titles = ["image", "ground truth", *runners]
    rows = list(islice(images.load(contract), count))
    sheet = Image.new(
        "RGB",
        (len(titles) * (width + _GAP) - _GAP, _HEADER + len(rows) * (height + _GAP) - _GAP),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        draw.text((column * (width + _GAP) + 2, 2), title, fill="black", font=font)
    for row, (_, image, mask) in enumerate(rows):
        cells = [image, overlay(image, mask)]
        for runner in runners.values():
            predicted = runner(image[None])[0, ..., 0] >= runner.contract.threshold
            cells.append(overlay(image, predicted))
        for column, cell in enumerate(cells):
            place = (column * (width + _GAP), _HEADER + row * (height + _GAP))
            sheet.paste(Image.fromarray(np.ascontiguousarray(cell)), place)
    data = io.BytesIO()
    sheet.save(data, format="PNG", optimize=True)
    return data.getvalue()
