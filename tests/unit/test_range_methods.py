"""How a range is chosen: what each method gives, and that mse is the best there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egeunet.model.errors import InputError
from egeunet.quantize.grids import asymmetric
from egeunet.quantize.range_methods import METHODS, RangeMethod


def chosen(method: RangeMethod, *images: np.ndarray) -> tuple[float, float]:
    observer = method.observer()
    for image in images:
        observer.add(torch.from_numpy(image.astype(np.float32)))
    return observer.range()


def error(values: np.ndarray, low: float, high: float) -> float:
    """Mean square error of int8 over a range, by quantizing every value."""
    grid = asymmetric(low, high)
    scale, zero = float(grid.scale[0]), int(grid.zero_point[0])
    units = np.clip(np.round(values / scale) + zero, -128, 127)
    return float(np.square((units - zero) * scale - values).mean())


def test_min_max_is_the_mean_of_each_images_extremes() -> None:
    assert chosen(RangeMethod(), np.array([-1, 4]), np.array([-3, 2])) == (-2, 3)


def test_percentile_cuts_both_tails_alike() -> None:
    values = np.linspace(-1, 1, 100_001)
    low, high = chosen(RangeMethod("percentile", 90), values[::2], values[1::2])
    assert (low, high) == pytest.approx((-0.9, 0.9), abs=0.002)
    assert chosen(RangeMethod("percentile", 100), values) == (-1, 1)


DISTRIBUTIONS = {
    "normal": np.random.default_rng(0).normal(size=40_000),
    "long tail": np.random.default_rng(1).standard_t(3, size=40_000),
    "positive": np.random.default_rng(2).gamma(1.0, size=40_000),
    "negative": -np.random.default_rng(3).gamma(0.5, size=40_000),
    "even": np.random.default_rng(4).uniform(-1, 2, size=40_000),
    "one outlier": np.append(np.random.default_rng(5).normal(size=40_000), 500.0),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_is_nearly_the_best_of_a_fine_search(name: str) -> None:
    values = DISTRIBUTIONS[name]
    low, high = chosen(RangeMethod("mse"), *np.array_split(values, 4))
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)
    best = min(
        error(values, a * min(values.min(), 0), b * max(values.max(), 0))
        for a in np.geomspace(0.02, 1, 25)
        for b in np.geomspace(0.02, 1, 25)
    )
    assert error(values, low, high) <= 1.02 * best
    assert error(values, low, high) <= error(values, values.min(), values.max()) * 1.02


def test_mse_cuts_a_tail_that_min_max_keeps() -> None:
    values = DISTRIBUTIONS["long tail"]
    low, high = chosen(RangeMethod("mse"), values)
    assert high - low < 0.95 * (values.max() - values.min())
    assert error(values, low, high) < 0.95 * error(values, values.min(), values.max())


@pytest.mark.parametrize("name", METHODS)
def test_an_activation_of_zeros(name: str) -> None:
    assert chosen(RangeMethod(name), np.zeros(8)) == (0, 0)


def test_refused() -> None:
    with pytest.raises(InputError, match=r"--method must be one of min-max.*got 'kl'"):
        RangeMethod("kl")
    for percentile in (49.9, 100.1, float("nan")):
        with pytest.raises(InputError, match="--percentile is the share that is kept"):
            RangeMethod("percentile", percentile)


def test_in_words() -> None:
    assert str(RangeMethod()) == "min-max" and str(RangeMethod("mse", 60)) == "mse"
    assert str(RangeMethod("percentile", 99.9)) == "percentile 99.9"
