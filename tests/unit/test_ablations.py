"""Each ablation changes the graph as it says, and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from egeunet.model import EGEUNet, EGEUNetConfig
from egeunet.model.ablations import ABLATIONS, ablated
from egeunet.model.errors import InputError
from egeunet.model.layers import DILATIONS, GAB, GHPA, ChannelLayerNorm, DepthwiseSeparable
from egeunet.model.losses import deep_supervision_loss

WIDTHS = (8, 16, 24, 32, 48, 64)
#: (inputs, outputs) of the six deep stages.
DEEP = ((24, 32), (32, 48), (48, 64), (64, 48), (48, 32), (32, 24))
#: Parameters and thousands of multiply-accumulates at 256 x 256, convolutions only.
SIZES = {
    "full": (53_374, 72_096),
    "depthwise": (42_606, 71_637),
    "convolution": (126_142, 86_119),
    "no-bridge": (34_406, 58_595),
    "no-mask": (52_582, 70_381),
    "no-dilation": (53_374, 72_096),
    "no-deep-supervision": (52_449, 70_148),
    "baseline": (107_174, 72_617),
}
NAMES = tuple(ABLATIONS)


def network(name: str) -> EGEUNet:
    torch.manual_seed(0)
    return EGEUNet(ablated(name))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def kinds(model: nn.Module) -> Counter[str]:
    """How many modules of each of our own kinds there are."""
    ours = (GHPA, GAB, DepthwiseSeparable, ChannelLayerNorm)
    return Counter(type(m).__name__ for m in model.modules() if isinstance(m, ours))


def dilations_run(model: EGEUNet) -> Counter[int]:
    """Dilations of the convolutions that a forward pass really runs."""
    seen: list[int] = []

    def hook(module: nn.Module, *_: object) -> None:
        seen.append(int(module.dilation[0]))  # type: ignore[arg-type, index]

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(hook)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    return Counter(seen)


def test_every_ablation_is_counted_here() -> None:
    assert tuple(SIZES) == NAMES
    assert ablated("full") == EGEUNetConfig()
    assert len({str(ABLATIONS[name].config) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_multiply_accumulates(name: str) -> None:
    model = network(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 256, 256))
    assert (parameters(model), round(counter.get_total_flops() / 2e3)) == SIZES[name]


def test_sizes_follow_from_what_is_left_out() -> None:
    full = SIZES["full"][0]
    model = network("full")
    blocks = [m for m in model.modules() if isinstance(m, GHPA)]
    ghpa = sum(map(parameters, blocks))
    separable = sum(10 * i + (i + 1) * o for i, o in DEEP)
    assert SIZES["depthwise"][0] == full - ghpa + separable
    assert SIZES["convolution"][0] == full - ghpa + sum((9 * i + 1) * o for i, o in DEEP)
    bridges = sum(parameters(m) for m in model.modules() if isinstance(m, GAB))
    assert SIZES["no-bridge"][0] == full - bridges
    # In four groups the mask has a LayerNorm's 2, a kernel's 9 and a bias; then the tail's
    # LayerNorm (2 each) and 1x1 convolution (one row each) lose four channels.
    mask = sum(4 * (2 + 9 + 1) + 4 * 2 + 4 * c for c in WIDTHS[:5])
    assert SIZES["no-mask"][0] == full - mask
    heads = sum(c + 1 for c in WIDTHS[:5])
    assert SIZES["no-deep-supervision"][0] == full - mask - heads
    assert SIZES["baseline"][0] == SIZES["convolution"][0] - bridges


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("full", {"GHPA": 6, "GAB": 5, "ChannelLayerNorm": 37}),
        ("depthwise", {"DepthwiseSeparable": 6, "GAB": 5, "ChannelLayerNorm": 25}),
        ("convolution", {"GAB": 5, "ChannelLayerNorm": 25}),
        ("no-bridge", {"GHPA": 6, "ChannelLayerNorm": 12}),
        ("no-mask", {"GHPA": 6, "GAB": 5, "ChannelLayerNorm": 37}),
        ("no-dilation", {"GHPA": 6, "GAB": 5, "ChannelLayerNorm": 37}),
        ("no-deep-supervision", {"GHPA": 6, "GAB": 5, "ChannelLayerNorm": 37}),
        ("baseline", {}),
    ],
)
def test_which_blocks_there_are(name: str, blocks: dict[str, int]) -> None:
    assert kinds(network(name)) == blocks


def test_no_dilation_differs_in_dilations_only() -> None:
    full, plain = network("full"), network("no-dilation")
    counted = dilations_run(full)
    assert {d: counted[d] for d in DILATIONS if d > 1} == {2: 5, 5: 5, 7: 5}
    assert set(dilations_run(plain)) == {1}
    assert {n: p.shape for n, p in full.named_parameters()} == {
        n: p.shape for n, p in plain.named_parameters()
    }
    plain.load_state_dict(full.state_dict())
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        a, b = full(image), plain(image)
    assert (a.logits - b.logits).abs().max() > 1e-3
    # The coarsest side is made before the first bridge: it does not know.
    assert torch.equal(a.side_logits[0], b.side_logits[0])


def test_without_dilation_a_bridge_reaches_one_pixel_in_every_group() -> None:
    torch.manual_seed(0)
    bridge = GAB(12, 8, use_mask=False, dilated=False).requires_grad_(False)
    deep, skip = torch.rand(1, 12, 9, 9), torch.rand(1, 8, 17, 17)
    before = bridge(deep, skip, None)
    taps = {(8 + y, 8 + x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    for group in range(4):
        changed = skip.clone()
        changed[0, 2 * group, 8, 8] += 1.0
        moved = (bridge(deep, changed, None) != before)[0].any(0).nonzero()
        assert {(int(y), int(x)) for y, x in moved} == taps, f"group {group}"


@pytest.mark.parametrize(("name", "guided"), [("full", True), ("no-mask", False)])
def test_the_mask_head_reaches_the_final_map_only_through_the_bridge(
    name: str, guided: bool
) -> None:
    model = network(name)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    output = model(image)
    assert len(output.side_logits) == 5, "the side outputs are still trained"
    heads = [p for n, p in model.named_parameters() if n.startswith("gt_conv")]
    gradients = torch.autograd.grad(output.logits.sum(), heads, allow_unused=True)
    assert [g is not None for g in gradients] == [guided] * len(heads)


def test_without_bridges_a_skip_is_added() -> None:
    model = network("no-bridge")
    seen: dict[str, Tensor] = {}
    # What enters decoder2 is decoder1's stage plus the skip of encoder5's.
    model.ebn5.register_forward_hook(lambda *args: seen.update(skip=args[-1]))
    model.dbn1.register_forward_hook(lambda *args: seen.update(up=args[-1]))
    model.decoder2.register_forward_hook(lambda *args: seen.update(entering=args[1][0]))
    with torch.inference_mode():
        model(torch.rand(1, 3, 64, 64))
    gelu = torch.nn.functional.gelu
    expected = gelu(seen["up"]) + gelu(torch.nn.functional.max_pool2d(seen["skip"], 2))
    assert torch.equal(seen["entering"], expected)


def test_a_depthwise_stage_is_the_end_of_a_ghpa() -> None:
    torch.manual_seed(0)
    ghpa, plain = GHPA(24, 32), DepthwiseSeparable(24, 32)
    plain.load_state_dict({n: v for n, v in ghpa.state_dict().items() if n.startswith("ldw.")})
    x = torch.rand(2, 24, 8, 8)
    with torch.inference_mode():
        assert torch.equal(plain(x), ghpa.ldw(x))
    depthwise, gelu, pointwise = plain.ldw
    assert isinstance(gelu, nn.GELU) and depthwise.groups == 24 and depthwise.kernel_size == (3, 3)
    assert pointwise.groups == 1 and pointwise.kernel_size == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_ablation_learns(name: str) -> None:
    """Every parameter takes part, and a few steps on one picture lower its loss."""
    model = network(name)
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 32, 32, generator=generator)
    mask = (torch.linspace(-1, 1, 32).abs() < 0.5).float().expand(2, 1, 32, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = deep_supervision_loss(model(image), mask)
        loss.backward()
        missing = [n for n, p in model.named_parameters() if p.grad is None]
        assert not missing, f"take no part: {missing}"
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1]) and min(losses[1:]) < losses[0], losses


def test_an_unknown_ablation_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="no ablation 'ghpa'; there are full, depthwise, conv"):
        ablated("ghpa")


def test_widths_are_kept_and_the_rest_is_the_ablations() -> None:
    wide = EGEUNetConfig(num_classes=2, input_channels=1, channels=(4, 4, 8, 8, 8, 8))
    for name in NAMES:
        config = ablated(name, wide)
        kept = {"num_classes", "input_channels", "channels"}
        for field in fields(EGEUNetConfig):
            source = wide if field.name in kept else ablated(name)
            assert getattr(config, field.name) == getattr(source, field.name)
