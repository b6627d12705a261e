"""What makes a training step fast does not change its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import egeunet.model.layers as layers
from egeunet.model import EGEUNet, load_weights
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.losses import deep_supervision_loss


def gradients(model: EGEUNet, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Of all parameters, one after another, in float64."""
    deep_supervision_loss(model.train()(images), masks).backward()
    found = [p.grad.double().flatten() for p in model.parameters() if p.grad is not None]
    assert len(found) > 300
    return torch.cat(found)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_gradients_are_the_plain_implementation_s(
    dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels last with resizes of our own, against contiguous float64 with torch's.

    float32 may choose another winner of a max-pool where two are nearly alike.
    """
    data = synthetic_dataset(4, 64, seed=0)
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).double() / 255
    masks = torch.from_numpy(data.masks).reshape(4, 1, 64, 64).double()
    model = load_weights()[0].to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last = images.to(dtype).contiguous(memory_format=torch.channels_last)
    fast = gradients(model, last, masks.to(dtype))

    def torch_s(x: torch.Tensor, *size: int) -> torch.Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)

    monkeypatch.setattr(layers, "resize_for_training", torch_s)
    plain = gradients(load_weights()[0].double(), images.contiguous(), masks)
    difference = (fast - plain).norm() / plain.norm()
    assert difference <= bound, f"relative difference {difference:.3g}"
