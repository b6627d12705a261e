"""Weights of an ablated network: the file says what it is of, and cannot say anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from egeunet.model import EGEUNet, ModelContract, load_weights, save_weights
from egeunet.model.ablations import ABLATIONS, ablated
from egeunet.model.errors import InputError

NAMES = tuple(ABLATIONS)


def network(name: str) -> EGEUNet:
    torch.manual_seed(0)
    return EGEUNet(ablated(name))


@pytest.mark.parametrize("name", NAMES)
def test_weights_say_which_network_they_are_of(tmp_path: Path, name: str) -> None:
    model, contract = network(name), ModelContract(64, 96, threshold=0.4)
    save_weights(tmp_path / "w.safetensors", model, contract)
    again, contract_again = load_weights(tmp_path / "w.safetensors")
    assert (again.config, contract_again) == (ablated(name), contract)
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(model(image).logits, again(image).logits)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "no-dilation"])
def test_names_and_shapes_say_it_where_a_file_does_not(name: str) -> None:
    """As with files older than the metadata; only dilations do not show."""
    model = EGEUNet.from_public_state_dict(network(name).state_dict())
    assert model.config == ablated(name)


def safetensors(path: Path, model: EGEUNet, network: Any) -> Path:
    contract = json.dumps({**ModelContract().to_dict(), "network": network})
    save_file(model.state_dict(), path, {"contract": contract})
    return path


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"attention": "self"}, "attention must be one of .* got 'self'"),
        ({"dilated": "no"}, "dilated must be true or false, got 'no'"),
        ({"channels": [8, 16]}, "channels must be six"),
        ({"colour": 1}, "not an EGE-UNet configuration"),
        ([1], "not an EGE-UNet configuration"),
        ("wide", "not an EGE-UNet configuration"),
        ({"attention": "depthwise"}, "not EGE-UNet weights: 0 tensors missing"),
        (
            {"attention": "convolution"},
            r"not EGE-UNet weights: \d+ tensors missing .'decoder1.0.bias'",
        ),
        ({"bridge": False}, "unknown .'GAB1"),
        ({"bridge_mask": False}, r"has shape \(\d+,.*expected"),
        ({"channels": [4096] * 6}, r"has shape .*expected"),
    ],
)
def test_a_file_that_names_another_network_is_refused(
    tmp_path: Path, values: Any, reason: str
) -> None:
    path = safetensors(tmp_path / "w.safetensors", network("full"), values)
    with pytest.raises(InputError, match=reason) as caught:
        load_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
