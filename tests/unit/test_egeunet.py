"""The network in every configuration, at every size it takes, and its errors at others."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.model import EGEUNet, EGEUNetConfig
from egeunet.model.errors import InputError

NARROW = EGEUNetConfig(channels=(4, 4, 4, 8, 8, 4))
COMBINATIONS = list(
    itertools.product(
        (1, 3),
        (1, 3),
        (True, False),
        (True, False),
        ((8, 16, 24, 32, 48, 64), (4, 8, 4, 12, 8, 16)),
    )
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("classes", "inputs", "bridge", "sides", "channels"), COMBINATIONS)
def test_every_combination_runs_forward_and_backward(
    classes: int, inputs: int, bridge: bool, sides: bool, channels: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = EGEUNet(EGEUNetConfig(classes, inputs, channels, bridge, sides))
    output = model(noise(2, inputs, 32, 64))
    assert output.logits.shape == output.probability.shape == (2, classes, 32, 64)
    assert [tuple(side.shape) for side in output.side_probabilities] == 5 * sides * [(2, 1, 32, 64)]
    for probability in (output.probability, *output.side_probabilities):
        assert probability.min() >= 0 and probability.max() <= 1
    (output.logits.square().mean() + sum(s.square().mean() for s in output.side_logits)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part"
        assert torch.isfinite(parameter.grad).all(), name


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_any_multiple_of_32_works(batch: int, rows: int, columns: int) -> None:
    with torch.inference_mode():
        output = EGEUNet(NARROW)(noise(batch, 3, 32 * rows, 32 * columns))
    for map_ in output:
        for logits in map_ if isinstance(map_, tuple) else (map_,):
            assert logits.shape == (batch, 1, 32 * rows, 32 * columns)
            assert torch.isfinite(logits).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 300), st.integers(0, 300))
def test_other_sizes_are_refused_with_the_value_seen(height: int, width: int) -> None:
    if height % 32 == width % 32 == 0 and height and width:
        height += 1
    with pytest.raises(InputError, match=f"multiples of 32, got {height} x {width}") as caught:
        EGEUNet(NARROW)(torch.zeros(1, 3, height, width))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shape",
    [(3, 64, 64), (1, 1, 3, 64, 64), (64, 64), (1, 1, 64, 64), (1, 4, 64, 64), (1, 64, 64, 3)],
)
def test_wrong_rank_or_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected an image batch \(B, 3, H, W\), got") as caught:
        EGEUNet(NARROW)(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("widths", [(8, 8, 8, 4, 8, 8), (8, 8, 8, 8, 4, 8)])
def test_a_group_of_one_value_is_refused(widths: tuple[int, ...]) -> None:
    model = EGEUNet(EGEUNetConfig(channels=widths))
    with pytest.raises(InputError, match="32 x 32 with 4 channels in stage 4 or 5"):
        model(torch.zeros(2, 3, 32, 32))
    assert model(torch.zeros(1, 3, 32, 64)).logits.shape == (1, 1, 32, 64)


def test_an_image_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    model = EGEUNet().double()  # initial weights give logits of thousands: float32 is too coarse
    images = noise(3, 3, 64, 32).double()
    with torch.inference_mode():
        together = model(images).probability
        alone = torch.cat([model(image[None]).probability for image in images])
    assert (together - alone).abs().max() <= 1e-10


def test_memory_format_does_not_change_the_answer() -> None:
    torch.manual_seed(0)
    model, images = EGEUNet().double(), noise(2, 3, 64, 96).double()
    with torch.inference_mode():
        plain = model(images).probability
        last = model.to(memory_format=torch.channels_last)(  # type: ignore[call-overload]
            images.contiguous(memory_format=torch.channels_last)
        ).probability
    assert (plain - last).abs().max() <= 1e-10


def test_a_seed_decides_the_initial_weights() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(EGEUNet().state_dict())
    same, other = (
        all(torch.equal(states[0][name], state[name]) for name in state) for state in states[1:]
    )
    assert same and not other


def test_initial_convolutions_have_he_scale_over_fan_out() -> None:
    torch.manual_seed(0)
    model = EGEUNet(EGEUNetConfig(channels=(64, 64, 64, 64, 64, 64)))
    weight = model.get_parameter("encoder2.0.weight")  # (64, 64, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert not model.get_parameter("encoder2.0.bias").any()
    depthwise = model.get_parameter("encoder4.0.ldw.0.weight")  # (64, 1, 3, 3), 64 groups
    assert depthwise.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
