"""A made-up pigmented lesion: its outline, and how much pigment lies where.

Colour follows from absorption (Beer and Lambert): every pigment has an absorbance for
red, green and blue, and the skin's colour is multiplied by exp(-amount * absorbance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egeunet.model.data.noise import Canvas, Field, octaves, smoothstep, spline_noise

#: Absorbance for (R, G, B) of melanin near the surface (brown), deep melanin (the light
#: scattered above it makes it blue-gray) and blood (red).
BROWN = np.array([0.38, 1.00, 1.40])
BLUE_GRAY = np.array([1.00, 0.92, 0.74])
RED = np.array([0.12, 0.62, 0.58])


@dataclass(frozen=True)
class Lesion:
    """``mask`` bool (size, size); ``absorbance`` (size, size, 3), 0 where the skin is clear."""

    mask: NDArray[np.bool_]
    absorbance: Field


def draw_lesion(canvas: Canvas, rng: np.random.Generator, tiny: bool, at_border: bool) -> Lesion:
    """Draw one lesion; ``tiny`` covers below half a percent, ``at_border`` is cut by the edge."""
    outline = _outline(canvas, rng, tiny, at_border)  # distance inside, in radii
    ragged = outline + octaves(canvas, rng, 16, 4) * rng.uniform(0.02, 0.10)
    softness = 0.04 + 0.55 * rng.random() ** 2
    body = smoothstep(ragged, -softness * 0.6, softness)  # (size, size), 0..1
    texture = _texture(canvas, rng, outline)

    # Most lesions are faint to middling; one in eight is nearly black.
    strength = rng.uniform(0.9, 1.6) if rng.random() < 0.12 else rng.uniform(0.12, 0.62)
    brown = strength * body * texture
    deep = np.zeros_like(brown)
    if rng.random() < 0.35:
        patch = smoothstep(octaves(canvas, rng, 3, 5) + rng.uniform(-1.0, 0.4), 0.0, 1.8)
        deep = rng.uniform(0.2, 0.75) * body * patch * texture
        brown = brown * (1.0 - 0.6 * patch)
    red = body * 0.3 * rng.random() ** 2 * (1.0 + 0.4 * octaves(canvas, rng, 4, 3))
    halo = smoothstep(outline, -0.5, 0.1) * rng.uniform(0.0, 0.12)  # reddened skin around it
    if rng.random() < 0.2:  # regression: a part lost its pigment
        brown = brown * (1.0 - 0.85 * smoothstep(spline_noise(canvas, rng, 3), 0.3, 1.2))
    absorbance = brown[..., None] * BROWN + deep[..., None] * BLUE_GRAY
    absorbance = absorbance + np.maximum(red + halo, 0.0)[..., None] * RED
    # Annotators draw around the lesion: the outline without its finest raggedness.
    mask = np.asarray(outline > 0.0)
    mask.flat[outline.argmax()] = True  # the tiniest may fall between the pixel centres
    return Lesion(mask, absorbance)


def _outline(canvas: Canvas, rng: np.random.Generator, tiny: bool, at_border: bool) -> Field:
    """Signed distance from the outline in units of the radius, positive inside, (size, size)."""
    # The median area is 15 % of the picture, as in ISIC 2017's training part.
    area = 0.15 * math.exp(1.0 * rng.standard_normal())
    area = rng.uniform(0.0008, 0.004) if tiny else min(max(area, 0.006), 0.62)
    radius = max(math.sqrt(area / math.pi), 1.5 / canvas.size)
    centre = 0.5 + 0.05 * rng.standard_normal(2).clip(-2, 2)
    if at_border:
        side = int(rng.integers(2))
        edge = 0.35 * radius * rng.uniform(-0.5, 1.5)
        centre[side] = edge if rng.random() < 0.5 else 1.0 - edge
        centre[1 - side] = rng.uniform(0.25, 0.75)
    roughness = rng.uniform(0.3, 1.3)
    # Displacing the coordinates bends the outline without tearing it into islands.
    bend = radius * 0.11 * roughness
    dx = canvas.x - centre[0] + bend * octaves(canvas, rng, 5, 4)
    dy = canvas.y - centre[1] + bend * octaves(canvas, rng, 5, 4)
    angle, stretch = rng.uniform(0.0, math.pi), math.sqrt(rng.uniform(1.0, 1.7))
    cos, sin = math.cos(angle), math.sin(angle)
    u = (cos * dx + sin * dy) / stretch
    v = (-sin * dx + cos * dy) * stretch
    distance = np.sqrt(u * u + v * v)
    # cos(k t + phase) is the real part of z^k e^(i phase), z the unit vector's number.
    z = (u + 1j * v) / np.maximum(distance, 1e-12)
    ripple, power = np.zeros_like(distance), z
    for k in range(2, 7):
        power = power * z
        phase, size = rng.uniform(0.0, 2.0 * math.pi), rng.standard_normal() * 0.16 * roughness / k
        ripple = ripple + size * (power.real * math.cos(phase) - power.imag * math.sin(phase))
    return 1.0 + ripple - distance / radius


def _texture(canvas: Canvas, rng: np.random.Generator, outline: Field) -> Field:
    """Relative pigment inside the lesion, mean near 1: patches and one dermoscopic pattern."""
    patches = 1.0 + rng.uniform(0.12, 0.4) * octaves(canvas, rng, 5, 6)
    core = 1.0 + rng.uniform(-0.4, 0.5) * smoothstep(outline, 0.1, 0.9)  # darker or lighter core
    # A third of a coarser noise breaks the regularity of the fine one.
    cells = int(rng.integers(56, 100))
    fine = spline_noise(canvas, rng, cells) + 0.5 * spline_noise(canvas, rng, cells // 3)
    pattern = rng.choice(["network", "globules", "streaks", "even"], p=[0.3, 0.2, 0.15, 0.35])
    depth = rng.uniform(0.15, 0.5) * smoothstep(spline_noise(canvas, rng, 4), -1.3, 0.7)
    if pattern == "network":  # lines along the noise's zero crossings enclose pale holes
        detail = 1.0 + depth * (1.0 - 1.6 * np.minimum(np.abs(fine), 1.2))
    elif pattern == "globules":
        detail = 1.0 - 0.2 * depth + 1.3 * depth * smoothstep(fine, 0.4, 1.8)
    elif pattern == "streaks":  # stronger towards the rim
        rim = 1.0 - smoothstep(outline, 0.0, 0.35)
        detail = 1.0 + depth * rim * (0.4 + np.clip(fine, -1.0, 1.5))
    else:
        detail = 1.0 + 0.3 * depth * fine
    return np.maximum(patches * core * detail, 0.08)
