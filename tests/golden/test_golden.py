"""The reference is exact: the public implementation's weights give its outputs, to 1e-5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from egeunet.model import EGEUNet

TOLERANCE = 1e-5
PARAMETERS = 53_374
#: The paper's "0.072 GFLOPs" are multiply-accumulates (millions, 256 x 256).
MILLION_MACS = 72.1
#: Where each output stands in (probability, side probabilities coarsest first).
OUTPUTS = ("mask", "side5", "side4", "side3", "side2", "side1")

Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Arrays:
    """Weights, inputs and outputs of the public implementation."""
    with np.load(shared / "golden" / "egeunet_upstream.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def public_state(golden: Arrays) -> dict[str, torch.Tensor]:
    """Its state dict, under its own names."""
    return {
        name.removeprefix("w:"): torch.from_numpy(value)
        for name, value in golden.items()
        if name.startswith("w:")
    }


@pytest.fixture(scope="module")
def outputs(golden: Arrays, public_state: dict[str, torch.Tensor]) -> Arrays:
    """Ours, by the names that they have in the file: ``mask_a``, ``side5_a`` and so on."""
    model = EGEUNet.from_public_state_dict(public_state)
    found: Arrays = {}
    for case in "ab":
        with torch.inference_mode():
            output = model(torch.from_numpy(golden[f"x_{case}"]))
        maps = (output.probability, *output.side_probabilities)
        found |= {f"{n}_{case}": m.numpy() for n, m in zip(OUTPUTS, maps, strict=True)}
    return found


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_agrees(golden: Arrays, outputs: Arrays, name: str, case: str) -> None:
    ours, theirs = outputs[f"{name}_{case}"], golden[f"{name}_{case}"]
    assert ours.shape == theirs.shape == (*golden[f"x_{case}"].shape[:1], 1, *ours.shape[2:])
    assert ours.shape[2:] == golden[f"x_{case}"].shape[2:]
    assert theirs.std() > 1e-6, f"{name}_{case}: a constant map proves nothing"
    difference = np.abs(ours.astype(np.float64) - theirs)
    assert difference.max() <= TOLERANCE, (
        f"{name}_{case}: max difference {difference.max():.3g}, mean {difference.mean():.3g}"
    )


def test_the_loader_takes_the_public_dict_as_it_is(public_state: dict[str, torch.Tensor]) -> None:
    before = {name: value.clone() for name, value in public_state.items()}
    loaded = EGEUNet.from_public_state_dict(public_state).state_dict()
    assert list(loaded) == list(EGEUNet().state_dict())
    assert loaded.keys() == public_state.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(loaded[name], value), name
        assert torch.equal(public_state[name], value), f"{name} was changed in the caller's dict"
        assert loaded[name].data_ptr() != public_state[name].data_ptr(), f"{name} is shared"
    assert sum(value.numel() for value in public_state.values()) == PARAMETERS


def test_parameters_of_the_default_network() -> None:
    assert sum(p.numel() for p in EGEUNet().parameters()) == PARAMETERS


def test_multiply_accumulates_counted_by_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    # It counts convolutions only, the gates' included (0.29 M), and two operations for each
    # multiply-accumulate; norms, GELUs and resizes are not in the paper's figure either.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        EGEUNet()(torch.zeros(1, 3, 256, 256))
    million = counter.get_total_flops() / 2e6
    assert abs(million - MILLION_MACS) <= 0.1, f"{million:.3f} M multiply-accumulates"
