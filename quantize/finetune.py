"""Fine-tune a network with static norms, at last as its integer file computes; resumable."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from egeunet.model.checkpoint import TrainingState, copied, plain
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.pictures import Pictures
from egeunet.model.stopping import StopRequest
from egeunet.quantize.averaging import average, new_optimizer
from egeunet.quantize.distillation import Distillation
from egeunet.quantize.finetune_networks import Networks, network_of
from egeunet.quantize.finetune_pictures import augmented_batch, fitting_samples
from egeunet.quantize.finetune_plan import FinetunePlan, Phase
from egeunet.quantize.finetune_validation import Validation
from egeunet.quantize.mutual import MutualLoss, Pair
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.taps import TappedNetwork
from egeunet.quantize.trained_graph import TrainedGraph

CHECKPOINT_SECONDS = 240.0


class Finetuner:
    """One fine-tuning in one folder.

    Args:
        plan: what to do.
        reference, contract: the float network, in eval mode, and its contract.
        training, validation: pictures at the contract's size; the best averaged network
            of the last phase is chosen on ``validation``.
        folder: where ``checkpoint.pt`` lives.
        start: go on with this recipe's network, in integer phases only.
        resume: go on from the checkpoint instead of starting anew.
        compiled: run the step through torch.compile (minutes once a phase, faster after).
        on_validation: called after each, with the state.

    Raises:
        InputError: nothing to resume, a checkpoint of another plan, network or data, or a
            recipe that the plan cannot go on with.
    """

    def __init__(
        self,
        plan: FinetunePlan,
        reference: EGEUNet,
        contract: ModelContract,
        training: Pictures,
        validation: Pictures,
        folder: Path,
        *,
        start: StaticRecipe | None = None,
        resume: bool = False,
        compiled: bool = True,
        progress: bool = True,
        on_validation: Callable[[TrainingState], None] | None = None,
    ) -> None:
        self.plan, self.contract, self.folder, self.progress = plan, contract, folder, progress
        self.training, self.compiled, self.on_validation = training, compiled, on_validation
        reference = copy.deepcopy(reference).eval().requires_grad_(False)
        self.validation = Validation(reference, contract, validation)
        samples = fitting_samples(training, contract)
        self.start = start
        begun = None if start is None else _begun(start, plan, contract)
        self.networks = Networks(plan, reference, contract, samples, begun)
        teacher = TappedNetwork(copy.deepcopy(reference))
        kind = MutualLoss if plan.mutual else Distillation
        self.loss = kind(teacher, samples[:8], plan.truth, plan.maps, plan.pooled)
        #: The float network that the result stands for; another one after a mutual run.
        self.reference = reference
        self.state = TrainingState(plan.to_dict(), training.fingerprint(), 0, {}, {}, {})
        self.stop = StopRequest(folder)
        if resume:
            state = TrainingState.load(folder)
            if state.data_fingerprint != self.state.data_fingerprint:
                raise InputError(f"{folder}: its checkpoint was trained on other data")
            if plain(state.recipe) != plain(self.state.recipe):
                raise InputError(f"{folder}: its checkpoint follows another plan")
            self.state = state

    @property
    def epoch_steps(self) -> int:
        """Full batches only: the compiled step has one shape."""
        return max(1, len(self.training.epoch) // self.plan.batch)

    def run(self) -> TrainedGraph:
        """Fine-tune to the end; a first Ctrl-C (or SIGTERM) stops after the running step.

        Returns:
            The best averaged network of the last phase, in integer mode.

        Raises:
            KeyboardInterrupt: when stopped, after the checkpoint has been written.
            InputError: the loss is no longer finite; the checkpoint before is kept.
            OutputError: ``folder`` cannot be written, which shows before the first step.
        """
        total = sum(phase.epochs for phase in self.plan.phases) * self.epoch_steps
        hidden = None if self.progress else True  # None: a bar on a terminal only
        averaged: nn.Module | None = None
        first = 0
        with (
            self.stop.listening(),
            tqdm(total=total, initial=self.state.step, disable=hidden) as bar,
        ):
            for phase in self.plan.phases:
                steps = phase.epochs * self.epoch_steps
                # A phase that ended where a run was stopped is loaded for the next one.
                if self.state.step <= first + steps:
                    averaged = self._run_phase(phase, first, averaged, bar)
                first += steps
        assert averaged is not None
        averaged.load_state_dict(self.state.best)
        if isinstance(averaged, Pair):
            self.reference, averaged = averaged.reference.model, averaged.student
        assert isinstance(averaged, TrainedGraph)
        return averaged

    def _run_phase(self, phase: Phase, first: int, before: nn.Module | None, bar: Any) -> nn.Module:
        resumed = self.state.step > first
        # What is resumed is loaded below; only its shape matters here.
        model = self.networks.successor(phase, None if resumed else before)
        averaged = copy.deepcopy(model)
        optimizer = new_optimizer(model, self.plan.weight_decay)
        if resumed:
            try:
                model.load_state_dict(self.state.model)
                averaged.load_state_dict(self.state.averaged)
                optimizer.load_state_dict(self.state.optimizer)
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self.folder}: its checkpoint is of another network") from error
        else:
            self.state.best, self.state.best_iou = {}, -1.0
        model.train()
        averaged.eval()
        self._steps(phase, first, model, averaged, optimizer, bar)
        return averaged

    def _steps(
        self,
        phase: Phase,
        first: int,
        model: nn.Module,
        averaged: nn.Module,
        optimizer: torch.optim.Optimizer,
        bar: Any,
    ) -> None:
        plan, length = self.plan, self.epoch_steps
        rates, losses = plan.rates(phase), self.state.epoch_losses
        self.loss.truth = plan.truth_of(phase)
        if isinstance(self.loss, MutualLoss):
            self.loss.mutual = plan.mutual_of(phase)

        def loss_of(images: Tensor, masks: Tensor) -> Tensor:
            return self.loss(model, images, masks)

        if self.state.step == 0:  # a folder that cannot be written shows now
            self._save(model, averaged, optimizer)
        step_loss = torch.compile(loss_of) if self.compiled else loss_of
        saved = time.monotonic()
        for step in range(self.state.step, first + phase.epochs * length):
            epoch, index = divmod(step - first, length)
            # Order and augmentation depend on seed and position only: resume is exact.
            order = np.random.default_rng([plan.seed, 1, first, epoch])
            chosen = order.permutation(self.training.epoch)[index * plan.batch :][: plan.batch]
            images, masks = self._batch(chosen, np.random.default_rng([plan.seed, 2, step]))
            for group in optimizer.param_groups:
                group["lr"] = rates.rate(step - first, phase.epochs * length)
            optimizer.zero_grad()
            loss = step_loss(images, masks)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 5.0).item()
            losses.append(loss.item())
            if not math.isfinite(norm):  # nor is the loss; the weights still are
                raise InputError(
                    f"{self.folder}: loss {losses[-1]}, gradient {norm} at step {step}; "
                    "fine-tune anew with a lower learning rate"
                )
            optimizer.step()
            average(averaged, model, rates.decay(step - first))
            self.state.step = step + 1
            bar.update()
            if index == length - 1:
                mean_loss = float(np.mean(losses))
                losses.clear()
                self._end_epoch(phase, epoch, mean_loss, averaged, bar)
            stopping = self.stop.made
            ended = step + 1 == first + phase.epochs * length
            if stopping or ended or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(model, averaged, optimizer)
                saved = time.monotonic()
            if stopping:
                raise self.stop.stopped(self.state.step)

    def _batch(self, chosen: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return augmented_batch(self.training, chosen, self.plan.augmentation, self.contract, rng)

    def _end_epoch(
        self, phase: Phase, epoch: int, loss: float, averaged: nn.Module, bar: Any
    ) -> None:
        if (epoch + 1) % self.plan.validate_every and epoch + 1 < phase.epochs:
            return
        found = self.validation(averaged)
        self.state.log.append(
            {
                "step": self.state.step,
                "phase": phase.kind,  # type: ignore[dict-item]
                "epoch": epoch + 1,
                "loss": loss,
                "validation_iou": found.iou,
                "reference_iou": found.reference_iou,
                "mask_iou": found.mask_iou,
            }
        )
        # The IoU is what an app gets. Of a reference that moves along its own counts, and that
        # the student, which stands for it, follows.
        together = (found.mask_iou + found.reference_iou) / 2
        score = together if self.plan.mutual else found.iou
        if score > self.state.best_iou:
            self.state.best_iou, self.state.best = score, copied(averaged)
        bar.set_postfix(
            phase=phase.kind, loss=f"{loss:.3f}", iou=f"{found.iou:.4f}", of=f"{found.mask_iou:.4f}"
        )
        if self.on_validation:
            self.on_validation(self.state)

    def _save(
        self, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.state.model, self.state.averaged = copied(model), copied(averaged)
        self.state.optimizer = optimizer.state_dict()
        self.state.save(self.folder)


def _begun(recipe: StaticRecipe, plan: FinetunePlan, contract: ModelContract) -> TrainedGraph:
    """The network of a recipe that a plan goes on with."""
    first = plan.phases[0].kind
    if first != "integer":
        raise InputError(f"a recipe goes on with integer phases, the plan begins with {first}")
    if recipe.form != plan.form or recipe.contract != contract:
        raise InputError(
            "a recipe of another form or size than the plan's; give the options that it was made "
            f"with: {recipe.form}"
        )
    return network_of(recipe)
