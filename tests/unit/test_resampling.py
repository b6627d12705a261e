"""Resizing for training: the values of F.interpolate, and its gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from egeunet.model.layers import resize
from egeunet.model.resampling import resize_for_training

CASES = [
    ((2, 1, 8, 8), (64, 64)),
    ((2, 1, 8, 16), (32, 128)),
    ((2, 1, 16, 16), (32, 32)),
    ((2, 6, 8, 12), (16, 24)),
    ((1, 3, 5, 7), (9, 4)),
    ((1, 2, 1, 8), (3, 8)),
]


def both(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float32)
    return x, torch.randn((*shape[:2], *size), generator=generator)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("shape", "size"), CASES)
def test_equals_interpolate_forwards_and_backwards(
    shape: tuple[int, ...], size: tuple[int, int], layout: torch.memory_format
) -> None:
    x, gradient = both(shape, size)
    ours = x.contiguous(memory_format=layout).clone().requires_grad_()
    theirs = x.double().clone().requires_grad_()
    result = resize_for_training(ours, *size)
    plain = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    assert torch.equal(result, plain), f"max difference {(result - plain).abs().max():.3g}"
    result.backward(gradient)
    expected = F.interpolate(theirs, size=size, mode="bilinear", align_corners=True)
    expected.backward(gradient.double())
    assert ours.grad is not None and theirs.grad is not None
    difference = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()
    assert difference <= 1e-5, f"relative difference of the gradient {difference:.3g}"


def test_the_result_is_channels_last_and_opcheck_finds_no_fault() -> None:
    x, _ = both((2, 4, 8, 8), (16, 16))
    result = resize_for_training(x.requires_grad_(), 16, 16)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.egeunet.resize.default, (x, 16, 16))


def test_inference_keeps_the_operator_that_converters_know() -> None:
    """What traces the network for an export must find torch's own resize."""
    x = torch.rand(1, 2, 8, 8)
    with torch.profiler.profile() as profile:
        resize(x, (16, 16))
    assert not any("egeunet" in event.key for event in profile.key_averages())
    with torch.profiler.profile() as profile:
        resize(x.requires_grad_(), (16, 16))
    assert any("egeunet" in event.key for event in profile.key_averages())


def test_an_exported_program_holds_torchs_own_resize() -> None:
    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return resize(x * self.gain, (16, 16))

    program = torch.export.export(Doubled(), (torch.rand(1, 2, 8, 8),))
    assert "upsample_bilinear2d" in str(program.graph) and "egeunet" not in str(program.graph)
