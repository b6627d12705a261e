"""Smooth random fields and anti-aliased strokes, from numpy alone.

Everything is float64 and drawn from a PCG64 stream whose length does not depend on the
picture's size, so the same seed gives the same picture on every machine and, finer or
coarser, at every size. No drawing library: its rasterizer may change with its version.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]


@dataclass(frozen=True)
class Canvas:
    """A square of ``size`` pixels with coordinates 0..1, origin top left."""

    size: int

    @property
    def x(self) -> Field:
        """Pixel centres along a row, (1, size)."""
        return ((np.arange(self.size) + 0.5) / self.size)[None, :]

    @property
    def y(self) -> Field:
        """Pixel centres down a column, (size, 1)."""
        return ((np.arange(self.size) + 0.5) / self.size)[:, None]


def smoothstep(values: Field, low: float, high: float) -> Field:
    """0 below ``low``, 1 above ``high``, a cubic between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def spline_noise(canvas: Canvas, rng: np.random.Generator, cells: int) -> Field:
    """A cubic B-spline over random values, (size, size), mean 0, deviation near 1.

    ``cells`` is how many values lie along a side: the larger, the finer.
    """
    grid = rng.standard_normal((cells + 3, cells + 3))
    weights = _spline_weights(canvas.size, cells)  # (size, cells + 3)
    # The spline averages neighbours; 2.1 restores the deviation.
    return (weights @ grid @ weights.T) * 2.1


def octaves(canvas: Canvas, rng: np.random.Generator, cells: int, count: int) -> Field:
    """``count`` noises, each twice as fine and 0.6 times as strong, deviation near 1."""
    total: Field = np.zeros((canvas.size, canvas.size))
    power = 0.0
    for level in range(count):
        total += spline_noise(canvas, rng, cells << level) * 0.6**level
        power += 0.36**level
    return total / power**0.5


def _spline_weights(size: int, cells: int) -> Field:
    position = (np.arange(size) + 0.5) / size * cells
    cell = np.minimum(position.astype(np.int64), cells - 1)
    t = position - cell
    rows = np.arange(size)
    weights = np.zeros((size, cells + 3))
    weights[rows, cell] = (1 - t) ** 3 / 6
    weights[rows, cell + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[rows, cell + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[rows, cell + 3] = t**3 / 6
    return weights


def stroke(canvas: Canvas, control: Field, width: float) -> Field:
    """Coverage 0..1 of a quadratic Bezier curve that thins towards its end, (size, size).

    Args:
        control: three points (x, y), (3, 2), in canvas units; may lie outside.
        width: at its start, in canvas units.
    """
    length = np.sqrt(((control[1:] - control[:-1]) ** 2).sum(axis=1)).sum()
    along = max(2, int(length * canvas.size * 2.5))  # samples 0.4 pixels apart
    across = max(1, int(np.ceil(width * canvas.size * 2.5)))
    t = (np.arange(along) + 0.5)[:, None] / along  # (along, 1)
    points = (1 - t) ** 2 * control[0] + 2 * t * (1 - t) * control[1] + t**2 * control[2]
    tangent = (1 - t) * (control[1] - control[0]) + t * (control[2] - control[1])
    tangent /= np.maximum(np.sqrt((tangent**2).sum(axis=1, keepdims=True)), 1e-9)
    local = width * (1.0 - 0.6 * t)  # (along, 1)
    offsets = ((np.arange(across) + 0.5) / across - 0.5)[None, :] * local  # (along, across)
    x = (points[:, :1] - tangent[:, 1:] * offsets) * canvas.size - 0.5
    y = (points[:, 1:] + tangent[:, :1] * offsets) * canvas.size - 0.5
    # Each sample stands for a patch of this many pixels of area.
    patch = (length / along * canvas.size) * (local / across * canvas.size)
    weight = np.broadcast_to(patch, x.shape)
    return np.minimum(_splat(canvas.size, x.ravel(), y.ravel(), weight.ravel()), 1.0)


def _splat(size: int, x: Field, y: Field, weight: Field) -> Field:
    """Spread every weight over its four nearest pixels; what falls outside is lost."""
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = x - left, y - top
    padded = size + 2  # one pixel of margin takes what lies just outside
    inside = (left >= -1) & (left < size) & (top >= -1) & (top < size)
    start = ((top + 1) * padded + left + 1)[inside].astype(np.int64)
    total: Field = np.zeros(padded * padded)
    for step, share in (
        (0, (1 - right_share) * (1 - bottom_share)),
        (1, right_share * (1 - bottom_share)),
        (padded, (1 - right_share) * bottom_share),
        (padded + 1, right_share * bottom_share),
    ):
        total += np.bincount(start + step, (weight * share)[inside], minlength=padded * padded)
    return total.reshape(padded, padded)[1:-1, 1:-1]
