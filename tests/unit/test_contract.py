"""The contract: its values, what pixels become under it, and its JSON form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from egeunet.model import ModelContract
from egeunet.model.contract import NORMALIZATIONS
from egeunet.model.errors import InputError

SIDES = st.integers(1, 1000).map(lambda n: 32 * n)
THRESHOLDS = st.floats(0, 1, exclude_min=True, exclude_max=True)
PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(0, 3), st.just(3), st.just(4), st.just(3)))


def test_the_default_is_that_of_the_shipped_weights() -> None:
    contract = ModelContract()
    assert (contract.height, contract.width, contract.colour) == (256, 256, "RGB")
    assert (contract.normalization, contract.threshold) == ("unit", 0.5)


@settings(deadline=None, max_examples=50)
@given(SIDES, SIDES, st.sampled_from(NORMALIZATIONS), THRESHOLDS)
def test_json_round_trip(height: int, width: int, normalization: str, threshold: float) -> None:
    contract = ModelContract(height, width, normalization=normalization, threshold=threshold)
    assert ModelContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


@settings(deadline=None, max_examples=50)
@given(st.integers())
def test_a_side_is_taken_or_the_error_names_one_that_would_be(side: int) -> None:
    if side >= 32 and side % 32 == 0:
        assert ModelContract(side, 64).height == side
        return
    with pytest.raises(InputError, match=f"width must be .*, got {side}; try ") as caught:
        ModelContract(64, side)
    advised = int(str(caught.value).rsplit(" ", 1)[1])
    assert ModelContract(64, advised).width == advised
    assert side < 32 or abs(advised - side) <= 16


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"height": 250}, "height must be a positive multiple of 32, got 250; try 256"),
        ({"width": -64}, "width must be a positive multiple of 32, got -64; try 32"),
        ({"height": 10**400 + 1}, "height must be a positive multiple of 32"),
        ({"height": 256.0}, "height must be an integer, got 256.0"),
        ({"width": None}, "width must be an integer, got None"),
        ({"height": True}, "height must be"),
        ({"colour": "BGR"}, "colour must be 'RGB', got 'BGR'"),
        ({"normalization": "imagenet"}, "normalization must be one of .*, got 'imagenet'"),
        ({"normalization": ["unit"]}, r"normalization must be one of .*, got \['unit'\]"),
        ({"threshold": 0}, "threshold must lie between 0 and 1, got 0"),
        ({"threshold": 1.0}, "threshold must lie between 0 and 1, got 1.0"),
        ({"threshold": float("nan")}, "threshold must lie between 0 and 1, got nan"),
        ({"threshold": "0.5"}, "threshold must lie between 0 and 1, got '0.5'"),
        ({"mean": [0, 0, 0]}, r"not a model contract: missing \[\], unknown \['mean'\]"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], seen: str) -> None:
    with pytest.raises(InputError, match=seen) as caught:
        ModelContract.from_dict({**ModelContract().to_dict(), **values})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(ModelContract().to_dict()))
def test_a_missing_value_is_no_default(name: str) -> None:
    values = ModelContract().to_dict()
    del values[name]
    with pytest.raises(InputError, match=rf"missing \['{name}'\]"):
        ModelContract.from_dict(values)


@pytest.mark.parametrize("values", [None, [], "RGB", 3, {"height": 256}, {}])
def test_what_is_no_contract_is_refused(values: Any) -> None:
    with pytest.raises(InputError, match="not a model contract"):
        ModelContract.from_dict(values)


@settings(deadline=None, max_examples=30)
@given(PIXELS)
def test_unit_divides_by_255(pixels: np.ndarray) -> None:
    real = ModelContract().normalize(pixels)
    assert real.dtype == np.float32 and real.shape == pixels.shape
    assert np.array_equal(real, pixels.astype(np.float32) / np.float32(255))
    assert real.size == 0 or (real.min() >= 0 and real.max() <= 1)


@settings(deadline=None, max_examples=30)
@given(PIXELS)
def test_minmax255_stretches_each_image_on_its_own(pixels: np.ndarray) -> None:
    contract = ModelContract(normalization="minmax255")
    real = contract.normalize(pixels)
    assert real.dtype == np.float32 and real.shape == pixels.shape
    assert np.isfinite(real).all()
    for stretched, image in zip(real, pixels.astype(np.float64), strict=True):
        low, high = image.min(), image.max()
        wanted = (image - low) / (high - low) * 255 if high > low else 0 * image
        assert np.abs(stretched - wanted).max() <= 1e-4


def test_minmax255_is_the_public_codes_normalization_whatever_its_mean_and_std() -> None:
    pixels = np.random.default_rng(0).integers(20, 240, (1, 8, 8, 3), dtype=np.uint8)
    standard = (pixels - 157.561) / 26.706  # the public code's figures for ISIC 2018
    wanted = (standard - standard.min()) / (standard.max() - standard.min()) * 255
    ours = ModelContract(normalization="minmax255").normalize(pixels)
    assert np.abs(ours - wanted).max() <= 1e-4


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_uniform_image_gives_finite_values(value: int) -> None:
    pixels = np.full((2, 4, 4, 3), value, dtype=np.uint8)
    assert not ModelContract(normalization="minmax255").normalize(pixels).any()
    assert (ModelContract().normalize(pixels) == np.float32(value) / np.float32(255)).all()
