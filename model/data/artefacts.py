"""What else a dermoscopy picture shows: hairs, ruler marks, bubbles, ink, dark corners."""

from __future__ import annotations

import math

import numpy as np

from egeunet.model.data.noise import Canvas, Field, octaves, smoothstep, stroke


def blend(image: Field, coverage: Field, colour: Field) -> Field:
    """Paint ``colour`` (3,) over ``image`` (size, size, 3) by ``coverage`` (size, size)."""
    return image + coverage[..., None] * (colour - image)


def add_hairs(image: Field, canvas: Canvas, rng: np.random.Generator) -> Field:
    """A few to forty curved hairs, mostly dark, sometimes blond or white, in one main direction."""
    count = int(rng.integers(1, 9)) if rng.random() < 0.7 else int(rng.integers(9, 36))
    direction = rng.uniform(0.0, 2.0 * math.pi)
    dark, light = np.array([0.20, 0.13, 0.11]), np.array([0.86, 0.79, 0.68])
    base = light if rng.random() < 0.15 else dark + rng.uniform(0.0, 0.25) * (light - dark)
    width = rng.uniform(0.002, 0.0065)
    for _ in range(count):
        angle = direction + 0.5 * rng.standard_normal()
        length = rng.uniform(0.15, 0.9)
        start = rng.uniform(-0.1, 1.1, 2)
        step = length * np.array([math.cos(angle), math.sin(angle)])
        bow = length * rng.uniform(-0.3, 0.3) * np.array([-math.sin(angle), math.cos(angle)])
        control = np.stack([start, start + 0.5 * step + bow, start + step])  # (3, 2)
        coverage = stroke(canvas, control, width * rng.uniform(0.5, 1.2))
        image = blend(image, coverage * rng.uniform(0.55, 0.95), base * rng.uniform(0.8, 1.15))
    return image


def add_ruler(image: Field, canvas: Canvas, rng: np.random.Generator) -> Field:
    """Millimetre ticks along a line near an edge; the line itself is drawn half of the time."""
    angle = rng.uniform(-0.45, 0.45) + 0.5 * math.pi * int(rng.integers(4))
    along = np.array([math.cos(angle), math.sin(angle)])
    inward = np.array([-along[1], along[0]])
    middle = np.array([0.5, 0.5]) - inward * rng.uniform(0.36, 0.47)
    length, ticks = rng.uniform(0.35, 0.95), int(rng.integers(10, 26))
    ink, opacity = rng.uniform(0.05, 0.4) * np.ones(3), rng.uniform(0.5, 0.95)
    coverage = np.zeros((canvas.size, canvas.size))
    if rng.random() < 0.5:
        ends = [middle - 0.5 * length * along, middle, middle + 0.5 * length * along]
        coverage += stroke(canvas, np.stack(ends), 0.006)
    for tick in range(ticks + 1):
        foot = middle + (tick / ticks - 0.5) * length * along
        tip = foot + inward * (0.045 if tick % 5 == 0 else 0.024)
        coverage += stroke(canvas, np.stack([foot, 0.5 * (foot + tip), tip]), 0.007)
    return blend(image, np.minimum(coverage, 1.0) * opacity, ink)


def add_bubbles(image: Field, canvas: Canvas, rng: np.random.Generator) -> Field:
    """Gel bubbles: a thin dark contour, a bright ring inside it, a glint on one side."""
    for _ in range(int(rng.integers(1, 7))):
        centre, radius = rng.uniform(0.03, 0.97, 2), 0.008 + 0.045 * rng.random() ** 2
        dx, dy = canvas.x - centre[0], canvas.y - centre[1]
        distance = np.sqrt(dx * dx + dy * dy)
        line = max(0.1 * radius, 0.8 / canvas.size)
        ring = np.clip(1.0 - np.abs(distance - radius) / (1.6 * line), 0.0, 1.0)
        contour = np.clip(1.0 - np.abs(distance - radius - 2.0 * line) / (1.6 * line), 0.0, 1.0)
        angle = rng.uniform(0.0, 2.0 * math.pi)
        lit = (dx * math.cos(angle) + dy * math.sin(angle)) / np.maximum(distance, 1e-9)
        image = blend(image, 0.35 * contour, image.mean(axis=(0, 1)) * 0.45)
        image = blend(image, ring * (0.3 + 0.45 * np.maximum(lit, 0.0)), np.ones(3))
        gx, gy = dx - 0.55 * radius * math.cos(angle), dy - 0.55 * radius * math.sin(angle)
        glint = np.clip(1.2 - np.sqrt(gx * gx + gy * gy) / (0.22 * radius), 0.0, 1.0)
        image = blend(image, 0.8 * glint, np.ones(3))
    return image


def add_ink(image: Field, canvas: Canvas, rng: np.random.Generator) -> Field:
    """A violet pen line beside the lesion, patchy as ink on skin is."""
    radius, start = rng.uniform(0.4, 0.55), rng.uniform(0.0, 2.0 * math.pi)
    angles = start + np.array([0.0, 0.5, 1.0]) * rng.uniform(0.6, 1.6)
    reach = np.array([1.0, 1.25, 1.0])[:, None] * radius
    control = 0.5 + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (3, 2)
    coverage = stroke(canvas, control, rng.uniform(0.012, 0.03))
    patchy = smoothstep(octaves(canvas, rng, 24, 3), -1.0, 0.8)
    return blend(image, coverage * patchy * 0.75, np.array([0.33, 0.22, 0.55]))


def add_sticker(image: Field, canvas: Canvas, rng: np.random.Generator) -> Field:
    """The coloured calibration disc that some clinics lay beside the lesion, cut by the edge."""
    colours = np.array(
        [[0.16, 0.33, 0.66], [0.93, 0.55, 0.22], [0.50, 0.80, 0.75], [0.87, 0.80, 0.25]]
    )
    angle, radius = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.14, 0.26)
    reach = 0.5 / max(abs(math.cos(angle)), abs(math.sin(angle))) + 0.45 * radius
    dx = canvas.x - (0.5 + reach * math.cos(angle))
    dy = (canvas.y - (0.5 + reach * math.sin(angle))) / 1.3
    distance = np.sqrt(dx * dx + dy * dy)
    outer, inner = rng.permutation(4)[:2]
    image = blend(image, np.clip((radius - distance) * canvas.size, 0.0, 1.0), colours[outer])
    if rng.random() < 0.5:
        cover = np.clip((0.5 * radius - distance) * canvas.size, 0.0, 1.0)
        image = blend(image, cover, colours[inner])
    return image


def light(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Uneven lighting, (size, size), near 1: a slope, a slow field and darker edges."""
    angle, slope = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.0, 0.16)
    x, y = canvas.x - 0.5, canvas.y - 0.5
    falloff = rng.uniform(0.0, 0.5) * (x * x + y * y)
    slow = 0.02 * octaves(canvas, rng, 2, 2)
    return 1.02 + slope * (x * math.cos(angle) + y * math.sin(angle)) - falloff + slow


def add_dark_corners(image: Field, canvas: Canvas, rng: np.random.Generator) -> Field:
    """The dermatoscope's round field of view: nearly black outside of it."""
    centre = 0.5 + 0.05 * rng.standard_normal(2)
    # Frames are wider than high and were squashed: the circle stands upright.
    radius, squash = rng.uniform(0.54, 0.68), rng.uniform(1.0, 1.3)
    dx, dy = canvas.x - centre[0], (canvas.y - centre[1]) / squash
    distance = np.sqrt(dx * dx + dy * dy)
    soft = rng.uniform(0.004, 0.03) if rng.random() < 0.7 else rng.uniform(0.05, 0.15)
    outside = smoothstep(distance, radius - soft, radius + soft)
    dark = np.array([0.05, 0.045, 0.05]) * rng.uniform(0.2, 1.8)
    return blend(image, outside, dark)
