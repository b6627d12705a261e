"""Weights in fewer bits: what Core ML for iOS 16 expands when it loads a package.

Both ways leave the arithmetic in float16. Nothing is calibrated or trained again; how far
the masks move is measured by the exporter's gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_ROUNDS = 100


@dataclass(frozen=True)
class Compression:
    """How the large weights of a package are stored.

    Attributes:
        bits: of a stored value.
        palette: the values are indices into a table of 2 ** bits float16 values per tensor;
            else int8 numbers with a float16 scale per output channel.
        smallest: tensors of fewer values stay float16. Each item of a weight file takes 64
            bytes and is aligned to 64, and the operation takes about 150 of program text.
    """

    bits: int
    palette: bool
    smallest: int


COMPRESSIONS = {
    "linear8": Compression(8, palette=False, smallest=512),
    "palettized6": Compression(6, palette=True, smallest=512),
    "palettized4": Compression(4, palette=True, smallest=512),
}


def linear(data: Array, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """int8 and the scales (C,) along ``axis`` by which data = int8 * scale, symmetric.

    -127 .. 127 is used; a scale is at least the smallest normal float16.
    """
    others = tuple(other for other in range(data.ndim) if other != axis)
    largest = np.abs(data).max(axis=others)
    scale = np.maximum(largest / 127, np.finfo(np.float16).tiny).astype(np.float16)
    along = scale.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(data.ndim)])
    return np.clip(np.rint(data / along), -127, 127).astype(np.int8), scale


def palettized(data: Array, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Index of each value, flat, and the table (2 ** bits,): k-means in one dimension.

    Deterministic. Starts as dense as the cube root of the values' density, which is the best
    for many table entries (Panter and Dite, 1951), and ends when nothing moves: for EGE-UNet's
    kernels within 10 % (6 bits) and 2 % (4 bits) of the least squared error that there is;
    from evenly spaced quantiles it would end at 3.6 and 1.2 times that error.
    """
    values = np.sort(data.reshape(-1).astype(np.float64))
    places = np.cumsum(np.diff(values, prepend=values[0]) ** (2 / 3))
    starts = (np.arange(2**bits) + 0.5) / 2**bits * places[-1]
    table = np.interp(starts, places, values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    for _ in range(_ROUNDS):
        borders = np.searchsorted(values, (table[1:] + table[:-1]) / 2)
        ends = np.concatenate([[0], borders, [len(values)]])
        counts = np.diff(ends)
        moved = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), table)
        if np.array_equal(moved, table):
            break
        table = moved
    stored = table.astype(np.float16)
    wide = stored.astype(np.float64)
    indices = np.searchsorted((wide[1:] + wide[:-1]) / 2, data.reshape(-1))
    return indices.astype(np.uint8), stored


def packed(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Indices one behind the other, ``bits`` each, the least significant bit first."""
    each = np.unpackbits(indices[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(each, bitorder="little")


def unpacked(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The ``count`` indices that :func:`packed` has packed."""
    each = np.unpackbits(data, count=bits * count, bitorder="little").reshape(count, bits)
    return np.packbits(each, axis=1, bitorder="little")[:, 0]
