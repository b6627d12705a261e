"""The architecture as data: what it takes, what it refuses, and its JSON form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.model import EGEUNetConfig
from egeunet.model.config import ATTENTIONS
from egeunet.model.errors import InputError

WIDTHS = st.lists(st.integers(1, 64).map(lambda n: 4 * n), min_size=6, max_size=6)


def test_the_default_is_the_papers() -> None:
    assert EGEUNetConfig() == EGEUNetConfig(1, 3, (8, 16, 24, 32, 48, 64), True, True)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 9), st.integers(1, 9), WIDTHS, st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from(ATTENTIONS),
)  # fmt: skip
def test_json_round_trip(
    classes: int, inputs: int, widths: list[int], switches: list[bool], attention: str
) -> None:
    bridge, sides, mask, dilated = switches
    config = EGEUNetConfig(classes, inputs, tuple(widths), bridge, sides, attention, mask, dilated)
    assert EGEUNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"num_classes": 0}, "num_classes must be a positive integer up to 4096, got 0"),
        ({"num_classes": 1.5}, "num_classes must be a positive integer up to 4096, got 1.5"),
        ({"input_channels": -3}, "input_channels must be a positive integer up to 4096, got -3"),
        ({"input_channels": "3"}, "input_channels must be a positive integer up to 4096, got '3'"),
        ({"channels": (8, 16, 24, 32, 48)}, r"six positive multiples of 4 up to 4096, got \(8, 16"),
        ({"channels": (8, 16, 24, 32, 48, 62)}, "six positive multiples of 4"),
        ({"channels": (8, 16, 24, 32, 48, 0)}, "six positive multiples of 4"),
        ({"channels": (8, 16, 24, 32, 48, 64.0)}, "six positive multiples of 4"),
        ({"num_classes": 10**9}, "num_classes must be a positive integer up to 4096"),
        ({"channels": (8, 16, 24, 32, 48, 4100)}, "six positive multiples of 4 up to 4096"),
        ({"attention": "none"}, "attention must be one of .'ghpa', 'depthwise', .* got 'none'"),
        ({"attention": True}, "attention must be one of .* got True"),
        ({"bridge": 1}, "bridge must be true or false, got 1"),
        ({"bridge_mask": None}, "bridge_mask must be true or false, got None"),
        ({"dilated": "yes"}, "dilated must be true or false, got 'yes'"),
        ({"deep_supervision": 0.0}, "deep_supervision must be true or false, got 0.0"),
        ({"channels": 8}, "not an EGE-UNet configuration"),
        ({"widths": (8, 16, 24, 32, 48, 64)}, "not an EGE-UNet configuration.*widths"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], seen: str) -> None:
    with pytest.raises(InputError, match=seen) as caught:
        EGEUNetConfig.from_dict(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bridge", [True, False])
@pytest.mark.parametrize("sides", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_a_bridge_is_guided_where_there_is_a_bridge_and_a_side(
    bridge: bool, sides: bool, mask: bool
) -> None:
    config = EGEUNetConfig(bridge=bridge, deep_supervision=sides, bridge_mask=mask)
    assert config.guided == (bridge and sides and mask)
