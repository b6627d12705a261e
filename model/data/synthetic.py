"""Dermoscopy-like pictures made from numbers, for where no data folder is given.

They calibrate the int8 files, feed tests and examples, and are always labelled
synthetic. They resemble ISIC 2017's training part in colour statistics and lesion area;
they are no substitute for real images in training or in reporting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egeunet.model.data import artefacts
from egeunet.model.data.lesion import BROWN, RED, draw_lesion
from egeunet.model.data.noise import Canvas, Field, octaves, smoothstep, spline_noise
from egeunet.model.data.prepared import PreparedData
from egeunet.model.errors import InputError

#: Skin from very light to dark (Fitzpatrick I to VI) under a dermatoscope's light, RGB 0..1.
SKIN_TONES = np.array(
    [
        [0.96, 0.91, 0.90],
        [0.88, 0.79, 0.76],
        [0.80, 0.69, 0.63],
        [0.66, 0.50, 0.42],
        [0.49, 0.35, 0.28],
        [0.33, 0.23, 0.19],
    ]
)
#: How often what is seen: judged by eye from a few dozen ISIC 2017 pictures, not counted.
_HAIRS, _RULER, _BUBBLES, _INK, _STICKER, _CORNERS = 0.45, 0.22, 0.18, 0.06, 0.05, 0.22
_TINY, _AT_BORDER = 0.04, 0.04


def synthetic_sample(
    index: int, size: int = 256, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Make picture number ``index`` of the endless series that ``seed`` starts.

    The same arguments give the same picture on every machine (all in float64: two processors
    that differ in the last bit of exp could differ in a pixel by one grey level, hardly ever);
    another ``size`` gives the same scene finer or coarser, but for the camera's noise.

    Args:
        index: 0 or more; pictures do not depend on those before them.
        size: side in pixels, 16 to 4096.
        seed: 0 or more.

    Returns:
        uint8 RGB (size, size, 3), and its mask, bool (size, size), never empty or full.

    Raises:
        InputError: an argument out of range.
    """
    for name, value, low, high in (
        ("index", index, 0, 2**31),
        ("size", size, 16, 4096),
        ("seed", seed, 0, 2**63),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} must be from {low} to {high}, got {value}")
    scene, camera = (
        np.random.Generator(np.random.PCG64(part))
        for part in np.random.SeedSequence([seed, index]).spawn(2)
    )
    canvas = Canvas(size)
    tiny, at_border = scene.random() < _TINY, scene.random() < _AT_BORDER
    image = _skin(canvas, scene)  # (size, size, 3), 0..1
    lesion = draw_lesion(canvas, scene, tiny, at_border and not tiny)
    image = image * np.exp(-lesion.absorbance)
    for chance, add in (
        (_INK, artefacts.add_ink),
        (_HAIRS, artefacts.add_hairs),
        (_RULER, artefacts.add_ruler),
        (_BUBBLES, artefacts.add_bubbles),
        (_STICKER, artefacts.add_sticker),
    ):
        if scene.random() < chance:
            image = add(image, canvas, scene)
    image = image * artefacts.light(canvas, scene)[..., None]
    if scene.random() < _CORNERS:
        image = artefacts.add_dark_corners(image, canvas, scene)
    grain = camera.standard_normal((size, size, 1)) + 0.4 * camera.standard_normal((size, size, 3))
    pixels = image * _white_balance(scene) * 255.0 + grain * scene.uniform(0.3, 1.6)
    return np.floor(np.clip(pixels, 0.0, 255.0) + 0.5).astype(np.uint8), lesion.mask


def synthetic_dataset(count: int, size: int = 256, seed: int = 0) -> PreparedData:
    """The first ``count`` pictures, ids synthetic_0000 and so on, split "synthetic".

    Raises:
        InputError: ``count`` below 1, or an argument of :func:`synthetic_sample` out of range.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    pairs = [synthetic_sample(index, size, seed) for index in range(count)]
    images = np.stack([image for image, _ in pairs])  # (count, size, size, 3)
    masks = np.stack([mask for _, mask in pairs])  # (count, size, size)
    return PreparedData(images, masks, synthetic_ids(count), ("synthetic",) * count)


def synthetic_ids(count: int) -> tuple[str, ...]:
    """synthetic_0000, synthetic_0001, ..."""
    return tuple(f"synthetic_{index:04d}" for index in range(count))


def _skin(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Skin without lesion, (size, size, 3): tone, mottling, reddening, freckles, pores."""
    # Mostly light, as in the archives; one picture in twelve is brown or dark.
    tone = rng.uniform(2.4, 5.0) if rng.random() < 0.08 else 2.4 * rng.beta(2.0, 1.7)
    low = min(int(tone), len(SKIN_TONES) - 2)
    colour = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    mottling = rng.uniform(0.015, 0.05) * octaves(canvas, rng, 8, 5)
    mottling = mottling + rng.uniform(0.004, 0.02) * spline_noise(canvas, rng, 110)  # pores
    redness = rng.uniform(0.0, 0.12) * np.maximum(octaves(canvas, rng, 4, 4), 0.0)
    if rng.random() < 0.3:  # vessels: thin lines along a noise's zero crossings
        lines = 1.0 - smoothstep(np.abs(octaves(canvas, rng, 7, 3)), 0.0, 0.16)
        redness = redness + rng.uniform(0.03, 0.16) * lines * smoothstep(
            spline_noise(canvas, rng, 3), -0.3, 1.0
        )
    if rng.random() < 0.25:  # freckles and sun spots
        spots = smoothstep(octaves(canvas, rng, 14, 4), 1.1, 2.8)
        mottling = mottling + rng.uniform(0.1, 0.5) * spots
    absorbance = mottling[..., None] * BROWN + redness[..., None] * RED
    return np.asarray(colour * np.exp(-absorbance))


def _white_balance(rng: np.random.Generator) -> Field:
    """The camera's gain per channel, (3,): exposure, and a cast that is strong now and then."""
    exposure = 0.95 * np.exp(0.08 * rng.standard_normal())
    spread = 0.08 if rng.random() < 0.2 else 0.035
    cast = np.exp(spread * rng.standard_normal(3))
    return np.asarray(exposure * cast)
