"""The pictures of the bench report."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from egeunet.benchmarks.report import Evidence, difference_picture, worst_picture
from egeunet.benchmarks.report.pictures import LIMIT
from egeunet.model.errors import InputError


@pytest.mark.parametrize("shape", [(256, 256), (48, 200), (700, 33)])
def test_pictures_are_small_whatever_is_on_them(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)  # noise: the worst case
    mask = np.zeros(shape, dtype=bool)
    mask[10:30, 10:25] = True
    candidate = generator.random(shape).astype(np.float32)
    candidate[:5, :5] = np.nan
    evidence = Evidence(image, mask, mask.astype(np.float32), candidate)
    for draw in (worst_picture, difference_picture):
        png = draw(evidence)
        with Image.open(io.BytesIO(png)) as opened:
            opened.load()
            assert opened.format == "PNG" and max(opened.size) <= 360
        assert len(png) <= LIMIT


def test_pictures_show_outlines_signs_and_what_is_not_finite() -> None:
    shape = (64, 64)
    image = np.full((*shape, 3), 128, dtype=np.uint8)
    mask = np.zeros(shape, dtype=bool)
    mask[16:48, 16:48] = True
    candidate = np.where(mask, 0.0, 0.0).astype(np.float32)
    candidate[:, 56:] = 1.0
    candidate[:8, :8] = np.inf
    evidence = Evidence(image, mask, mask.astype(np.float32), candidate)
    drawn = np.asarray(Image.open(io.BytesIO(worst_picture(evidence))).convert("RGB")).astype(int)
    assert np.abs(drawn[80:240, 78:84] - (70, 200, 255)).sum(-1).min() < 40, "reference, left edge"
    assert np.abs(drawn[160, 272:290] - (255, 170, 0)).sum(-1).min() < 40, "candidate, its edge"
    assert np.abs(drawn[160, 160] - 128).max() < 10
    heat = np.asarray(Image.open(io.BytesIO(difference_picture(evidence))).convert("RGB")).astype(
        int
    )
    assert heat[160, 160, 2] > heat[160, 160, 0] + 100, "lower than the reference is blue"
    assert heat[160, 310, 0] > heat[160, 310, 2] + 100, "higher is red"
    assert np.abs(heat[10, 10] - (255, 0, 255)).max() < 20
    with pytest.raises(InputError, match=r"candidate is \(3, 3\)"):
        Evidence(image, mask, candidate, np.zeros((3, 3)))
    with pytest.raises(InputError, match="uint8"):
        Evidence(image.astype(np.float32), mask, candidate, candidate)  # type: ignore[arg-type]
