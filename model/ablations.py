"""The paper's ablations (Ruan et al., 2023, section 3.3), as architectures with names.

Each leaves one idea out and nothing else; ``baseline`` leaves out both blocks. Parameters
and multiply-accumulates of each stand in tests/unit/test_ablations.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from egeunet.model.config import EGEUNetConfig
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Ablation:
    """One line of the table.

    Attributes:
        name: as given on a command line.
        what: what is different from the full network, in words.
        config: the architecture.
    """

    name: str
    what: str
    config: EGEUNetConfig


_ALL = (
    Ablation("full", "nothing: the network of the paper", EGEUNetConfig()),
    Ablation(
        "depthwise",
        "each GHPA replaced by the depthwise-separable convolution it ends with",
        EGEUNetConfig(attention="depthwise"),
    ),
    Ablation(
        "convolution",
        "each GHPA replaced by a 3x3 convolution",
        EGEUNetConfig(attention="convolution"),
    ),
    Ablation("no-bridge", "each GAB replaced by addition of the skip", EGEUNetConfig(bridge=False)),
    Ablation(
        "no-mask",
        "the GABs see no mask; the side outputs are still trained",
        EGEUNetConfig(bridge_mask=False),
    ),
    Ablation(
        "no-dilation",
        "the convolutions of each GAB have dilation 1",
        EGEUNetConfig(dilated=False),
    ),
    Ablation(
        "no-deep-supervision",
        "no side outputs, hence no mask either: compare with no-mask",
        EGEUNetConfig(deep_supervision=False),
    ),
    Ablation(
        "baseline",
        "3x3 convolutions for GHPA and addition for GAB",
        EGEUNetConfig(attention="convolution", bridge=False),
    ),
)
#: By name; "full" first.
ABLATIONS = {ablation.name: ablation for ablation in _ALL}


def ablated(name: str, config: EGEUNetConfig | None = None) -> EGEUNetConfig:
    """The architecture of an ablation, with the widths and channels of ``config``.

    Raises:
        InputError: no ablation of that name; the message lists them.
    """
    if name not in ABLATIONS:
        raise InputError(f"no ablation {name!r}; there are {', '.join(ABLATIONS)}")
    if config is None:
        return ABLATIONS[name].config
    return replace(
        ABLATIONS[name].config, num_classes=config.num_classes,
        input_channels=config.input_channels, channels=config.channels,
    )  # fmt: skip
