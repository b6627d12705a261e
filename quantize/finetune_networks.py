"""The network of each phase of a fine-tuning, made of what the phase before left."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.quantize.finetune_plan import FinetunePlan, Phase
from egeunet.quantize.mutual import Pair
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.static_graph import build_static_graph, static_names
from egeunet.quantize.static_norms import with_static_norms
from egeunet.quantize.taps import TappedNetwork
from egeunet.quantize.trained_graph import TrainedGraph


@dataclass(frozen=True)
class Networks:
    """Makes them.

    Attributes:
        plan, reference, contract: of the fine-tuning.
        samples: (B, 3, H, W) float, normalized training images, on which norms are fitted
            and first bounds recorded.
        start: what the first phase begins with; None = the reference, folded.
    """

    plan: FinetunePlan
    reference: EGEUNet
    contract: ModelContract
    samples: Tensor
    start: TrainedGraph | None = None

    def successor(self, phase: Phase, before: nn.Module | None) -> nn.Module:
        """The network that a phase starts with.

        Args:
            phase: the one to come.
            before: the averaged network of the phase before; None = the reference with its
                norms fitted.
        """
        if self.plan.mutual:
            paired = before if isinstance(before, Pair) else None
            student = self.student(phase, paired and paired.student)
            known = TappedNetwork(self.reference) if paired is None else paired.reference
            reference = copy.deepcopy(known).requires_grad_(True)
            return Pair(student, reference.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        return self.student(phase, before)

    def student(self, phase: Phase, before: nn.Module | None) -> nn.Module:
        """As :meth:`successor`, of the student alone."""
        known = before if before is not None else self.start
        model = copy.deepcopy(known) if known is not None else self.fitted()
        if isinstance(model, TappedNetwork) and phase.kind != "norms":
            model = self.folded(model.model)
        if isinstance(model, TrainedGraph) and phase.kind == "integer" and not model.integer:
            model.set_bounds(model.observe(self.samples))
            model.integer = True
        if isinstance(model, TrainedGraph):
            model.trainable()
        else:
            model.requires_grad_(True)
        # torch's stubs do not know this overload of Module.to.
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def fitted(self) -> TappedNetwork:
        """The reference with static norms."""
        names = static_names(self.reference, self.plan.form)
        return TappedNetwork(with_static_norms(self.reference, names, self.samples))

    def folded(self, model: EGEUNet) -> TrainedGraph:
        """The graph of a network with static norms."""
        static = build_static_graph(model.eval(), self.contract, self.plan.form)
        return TrainedGraph(static, self.contract.pixel_scale)


def network_of(recipe: StaticRecipe) -> TrainedGraph:
    """The network that a recipe was written of, in integer mode.

    Raises:
        InputError: as :meth:`StaticRecipe.static`.
    """
    network = TrainedGraph(recipe.static(), recipe.contract.pixel_scale)
    network.set_bounds(recipe.calibration.ranges)
    network.integer = True
    return network
