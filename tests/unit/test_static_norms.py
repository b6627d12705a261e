"""Static norms: what is fitted, and in which order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import static_models
from egeunet.model.errors import InputError
from egeunet.quantize.static_norms import (
    StaticNorm,
    norm_names,
    norm_outputs,
    with_static_norms,
)

MODEL = static_models.random_network()
IMAGES = static_models.images(4)


def test_there_are_47_norms_in_the_order_of_the_forward_pass() -> None:
    names = norm_names(MODEL)
    assert len(names) == len(set(names)) == 47
    assert names[0] == "ebn1"
    assert names[-1] == "GAB1.tail_conv.0"
    assert names.index("encoder4.0.norm1") < names.index("encoder4.0.norm2") < names.index("ebn4")
    assert names.index("GAB5.g3.0") < names.index("GAB5.tail_conv.0") < names.index("dbn2")


def test_an_affine_target_is_met_exactly_and_a_flat_channel_gets_no_scale() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 8, 8) * torch.tensor([5.0, 0.0])[:, None, None] + 7
    target = torch.stack((2 * x[:, 0] - 3, torch.randn(3, 8, 8) + 1), dim=1)
    norm = StaticNorm(2).eval()
    norm.fit(x, target)
    result = norm(x)
    assert (result[:, 0] - target[:, 0]).abs().max() < 1e-3
    scale, offset = norm.scale_and_offset()
    assert scale[1] == 0
    assert offset[1].item() == pytest.approx(float(target[:, 1].mean()), abs=1e-5)


def test_eval_mode_is_scale_and_offset() -> None:
    model = static_models.static_network(static=("ebn1",))
    x = torch.randn(2, 8, 4, 4)
    scale, offset = model.ebn1.scale_and_offset()
    assert torch.allclose(
        model.ebn1(x), x * scale[:, None, None] + offset[:, None, None], atol=1e-5
    )


def test_each_static_norm_keeps_the_means_of_the_reference() -> None:
    """Least squares has no bias on the images it was fitted on, whatever came before."""
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    names = norm_names(MODEL)
    goals = norm_outputs(MODEL, names, IMAGES)
    static = with_static_norms(MODEL, names, IMAGES)
    found = norm_outputs(static, names, IMAGES)
    assert all(isinstance(static.get_submodule(name), StaticNorm) for name in names)
    assert not static.training
    for name in names:
        difference = (found[name].mean((0, 2, 3)) - goals[name].mean((0, 2, 3))).abs().max()
        assert difference < 2e-3, f"{name}: {difference:.3g}"
    assert all(torch.equal(value, before[name]) for name, value in MODEL.state_dict().items())


def test_each_norm_is_fitted_on_what_those_before_leave_of_its_input() -> None:
    names = norm_names(MODEL)[:2]
    both = with_static_norms(MODEL, names, IMAGES)
    second = StaticNorm(both.ebn2.num_features).eval()
    x = F.gelu(F.max_pool2d(both.ebn1(both.encoder1(IMAGES)), 2))
    second.fit(both.encoder2(x), norm_outputs(MODEL, names, IMAGES)["ebn2"])
    assert torch.allclose(second.weight, both.ebn2.weight, atol=1e-5)
    alone = with_static_norms(MODEL, ("ebn2",), IMAGES)
    assert not torch.allclose(alone.ebn2.weight, both.ebn2.weight, atol=1e-3)


def test_no_norm_is_named_leaves_the_function_as_it_is() -> None:
    assert torch.equal(with_static_norms(MODEL, (), IMAGES)(IMAGES).logits, MODEL(IMAGES).logits)


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [(("ebn9",), 4, "no norm is called 'ebn9'; there are 47"), (("ebn1",), 1, "got 1")],
)
def test_what_cannot_be_fitted_is_refused(names: tuple[str], count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_static_norms(MODEL, names, IMAGES[:count])
