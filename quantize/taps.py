"""Maps inside the reference that a student network is taught to give, too.

Places are named as the deploy form's scopes: ``encoder1`` to ``encoder5`` (normalized and
pooled, before GELU), ``encoder6`` (before GELU), ``decoder1`` to ``decoder5`` (normalized,
before resize and GELU), ``GAB5`` to ``GAB1``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from egeunet.model.egeunet import EGEUNet, EGEUNetOutput


class TappedNetwork(nn.Module):
    """A network whose forward pass gives its logits and its maps by place.

    Args:
        model: the reference, or a copy of it with static norms; it is held, not copied.
    """

    def __init__(self, model: EGEUNet) -> None:
        super().__init__()
        self.model = model
        self._found: dict[str, Tensor] = {}
        for name, place in _modules_of(model).items():
            model.get_submodule(name).register_forward_hook(self._recorder(place))

    def __deepcopy__(self, memo: dict[int, Any]) -> TappedNetwork:
        """With hooks of its own, which a plain copy would share."""
        model = copy.deepcopy(self.model, memo)
        for name in _modules_of(model):
            model.get_submodule(name)._forward_hooks.clear()
        return TappedNetwork(model).train(self.training)

    def _recorder(self, place: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_: nn.Module, __: object, output: Tensor) -> None:
            pooled = place.startswith("encoder") and place != "encoder6"
            self._found[place] = F.max_pool2d(output, 2) if pooled else output

        return record

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) float, normalized -> logits (B, 1, H, W), maps (B, C, h, w) by place."""
        output, found = self.full(image)
        return output.logits, found

    def full(self, image: Tensor) -> tuple[EGEUNetOutput, dict[str, Tensor]]:
        """As :meth:`forward`, with the side logits."""
        output: EGEUNetOutput = self.model(image)
        found, self._found = self._found, {}
        return output, found


def _modules_of(model: EGEUNet) -> dict[str, str]:
    """Name of a submodule -> the place its output stands for."""
    places = {"encoder6": "encoder6"}
    for index in range(1, 6):
        places[f"ebn{index}"] = f"encoder{index}"
        places[f"dbn{index}"] = f"decoder{index}"
        if model.config.bridge:
            places[f"GAB{index}"] = f"GAB{index}"
    return places
