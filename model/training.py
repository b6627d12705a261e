"""Train EGE-UNet: progressive resolution, one cosine, averaged weights, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from egeunet.model.checkpoint import TrainingState, copied, plain
from egeunet.model.config import EGEUNetConfig
from egeunet.model.contract import ModelContract
from egeunet.model.distributed import World
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.losses import deep_supervision_loss
from egeunet.model.pictures import Pictures
from egeunet.model.recipe import Recipe, Stage
from egeunet.model.stopping import StopRequest

CHECKPOINT_SECONDS = 240.0
_CHANNELS_LAST = torch.channels_last


class Trainer:
    """One training run in one folder.

    Args:
        recipe: what to do.
        training, validation: pictures at the last stage's size; selection of the best
            averaged weights happens on ``validation`` only.
        folder: where ``checkpoint.pt`` lives.
        config: the architecture; the default is the paper's.
        initial: weights to begin with, of that architecture; drawn from the seed if absent.
        resume: go on from the checkpoint instead of starting anew.
        compiled: run the step through torch.compile (minutes once, faster after).
        world: the processes that share every batch, and this one's device; only its process
            0 writes and calls back. All give the same arguments and get the same state.

    Raises:
        InputError: nothing to resume, or a checkpoint of another recipe, network or other
            data; a batch that ``world`` cannot share equally.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: Pictures,
        validation: Pictures,
        folder: Path,
        *,
        config: EGEUNetConfig | None = None,
        initial: EGEUNet | None = None,
        resume: bool = False,
        compiled: bool = True,
        world: World | None = None,
        progress: bool = True,
        on_validation: Callable[[TrainingState], None] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        self.world = world or World()
        self.recipe, self.folder, self.progress = recipe, folder, progress and self.world.main
        self.training, self.validation = training, validation
        self.compiled, self.on_validation, self.on_step = compiled, on_validation, on_step
        for stage in recipe.stages:
            self.world.share(min(stage.batch, len(training.epoch)))  # it raises before the work
        torch.manual_seed(recipe.seed)
        self.model = _channels_last(EGEUNet(config)).to(self.world.device)
        if initial is not None:
            self.model.load_state_dict(initial.state_dict())
        self.averaged = _channels_last(EGEUNet(config)).to(self.world.device)
        self.averaged.load_state_dict(self.model.state_dict())
        self.optimizer = _optimizer(self.model, recipe)
        described = {**recipe.to_dict(), "network": self.model.config.to_dict()}
        self.state = TrainingState(described, training.fingerprint(), 0, {}, {}, {})
        self.stop = StopRequest(folder)
        if resume:
            self._restore()

    def _restore(self) -> None:
        state = TrainingState.load(self.folder)
        if state.data_fingerprint != self.state.data_fingerprint:
            raise InputError(f"{self.folder}: its checkpoint was trained on other data")
        # A JSON round trip turns tuples into lists; compare what both look like as text.
        ours, theirs = plain(self.state.recipe), plain(state.recipe)
        network = theirs.pop("network", plain(EGEUNetConfig().to_dict()))  # older ones have none
        if ours.pop("network") != network:
            raise InputError(f"{self.folder}: its checkpoint is of another network")
        if ours != theirs:
            raise InputError(f"{self.folder}: its checkpoint follows another recipe")
        try:
            self.model.load_state_dict(state.model)
            self.averaged.load_state_dict(state.averaged)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.folder}: its checkpoint is of another network") from error
        self.state = state

    def steps_per_epoch(self, stage: Stage) -> int:
        """Full batches only: the compiled step has one shape."""
        return max(1, len(self.training.epoch) // stage.batch)

    def run(self) -> TrainingState:
        """Train to the end; a first Ctrl-C (or SIGTERM) stops after the running step.

        Raises:
            KeyboardInterrupt: when stopped, after the checkpoint has been written; by a
                second Ctrl-C at once, with the checkpoint before.
            InputError: the loss is no longer finite; the checkpoint before is kept.
            OutputError: ``folder`` cannot be written, which shows before the first step.
        """
        total = sum(s.epochs * self.steps_per_epoch(s) for s in self.recipe.stages)
        hidden = None if self.progress else True  # None: a bar on a terminal only
        with self.stop.listening():
            if self.state.step == 0:
                self.save()
            with tqdm(total=total, initial=self.state.step, disable=hidden) as bar:
                done = 0
                for stage in self.recipe.stages:
                    ends = done + self._epochs(stage) * self.steps_per_epoch(stage)
                    if self.state.step < ends:
                        self._run_stage(stage, done, ends, total, bar)
                    done = ends
        return self.state

    def _epochs(self, stage: Stage) -> int:
        last = stage is self.recipe.stages[-1]
        return self.recipe.stop if last and self.recipe.stop else stage.epochs

    def _run_stage(self, stage: Stage, first_step: int, ends: int, total: int, bar: Any) -> None:
        pictures = self.training.resized(stage.size)
        length = self.steps_per_epoch(stage)
        loss_of = _loss_of(self.world.replicated(self.model), self.recipe.pooled)
        step_loss = torch.compile(loss_of) if self.compiled else loss_of
        saved, losses = time.monotonic(), self.state.epoch_losses
        for step in range(self.state.step, ends):
            epoch, index = divmod(step - first_step, length)
            # Order and augmentation depend on seed and position only: resume is exact.
            order = np.random.default_rng([self.recipe.seed, 1, first_step, epoch])
            shuffled = order.permutation(pictures.epoch)
            chosen = shuffled[index * stage.batch : (index + 1) * stage.batch]
            rng = np.random.default_rng([self.recipe.seed, 2, step])
            images, masks = self._batch(pictures, chosen, rng)
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate(step, total)
            self.optimizer.zero_grad()
            loss = step_loss(images, masks)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0).item()
            if not math.isfinite(norm):  # nor is the loss; the weights still are
                raise InputError(
                    f"{self.folder}: loss {loss.item()}, gradient {norm} at step {step}; "
                    "train anew with a lower learning rate"
                )
            self.optimizer.step()
            self._average(step)
            self.state.step = step + 1
            # Once a step: the loss of the whole batch, and a stop after the same step everywhere.
            mean, stop = self.world.agree(loss.item(), self.stop.made)
            losses.append(mean)
            bar.update()
            if self.on_step and self.world.main:
                self.on_step()
            if index == length - 1:
                mean_loss = float(np.mean(losses))
                losses.clear()
                self._end_epoch(stage, epoch, mean_loss, bar)
            if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
            if stop:
                raise self.stop.stopped(self.state.step)
        self.save()

    def _batch(
        self, pictures: Pictures, chosen: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        index = torch.from_numpy(chosen)
        images, masks = pictures.images[index].float() / 255, pictures.masks[index].float()
        # The whole batch, whoever takes which part: numbers are drawn in one order only.
        images, masks = self.recipe.augmentation(images, masks, rng)
        mine, device = self.world.share(len(chosen)), self.world.device
        images = images[mine].contiguous(memory_format=_CHANNELS_LAST)
        return images.to(device), masks[mine].contiguous().to(device)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        targets: list[Tensor] = list(self.averaged.parameters())
        sources: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(targets, sources, 1 - self.recipe.decay(step))

    def _end_epoch(self, stage: Stage, epoch: int, loss: float, bar: Any) -> None:
        if (epoch + 1) % self.recipe.validate_every and epoch + 1 < self._epochs(stage):
            return
        iou = pooled_iou(self.averaged, self.validation.resized(stage.size))
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"step": self.state.step, "size": stage.size, "epoch": epoch + 1,
               "loss": loss, "validation_iou": iou, "learning_rate": rate}  # fmt: skip
        self.state.log.append(row)
        # Only the last resolution is the contract's; earlier stages are not comparable.
        better = iou > self.state.best_iou or self.recipe.keep_last
        if stage == self.recipe.stages[-1] and better:
            self.state.best_iou, self.state.best = iou, copied(self.averaged)
        bar.set_postfix(size=stage.size, loss=f"{loss:.3f}", iou=f"{iou:.4f}")
        self.save()
        if self.on_validation and self.world.main:
            self.on_validation(self.state)

    def save(self) -> None:
        """Write the checkpoint, if this process is the one that writes."""
        if not self.world.main:
            return
        self.state.model, self.state.averaged = copied(self.model), copied(self.averaged)
        self.state.optimizer = self.optimizer.state_dict()
        self.state.save(self.folder)


@torch.inference_mode()
def pooled_iou(model: EGEUNet, pictures: Pictures, threshold: float = 0.5) -> float:
    """IoU of one confusion matrix over all pixels of ``pictures``, in 0..1."""
    contract, overlap, union = ModelContract(), 0, 0
    device = next(model.parameters()).device
    for images, masks in zip(pictures.images.split(8), pictures.masks.split(8), strict=True):
        pixels = contract.normalize(images.permute(0, 2, 3, 1).numpy())
        real = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
        predicted = (model(real).probability >= threshold).cpu()
        overlap += int((predicted & masks).sum())
        union += int((predicted | masks).sum())
    return overlap / max(union, 1)


def _loss_of(model: nn.Module, pooled: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss_of(images: Tensor, masks: Tensor) -> Tensor:
        return deep_supervision_loss(model(images), masks, pooled)

    return loss_of


def _optimizer(model: EGEUNet, recipe: Recipe) -> torch.optim.AdamW:
    kernels = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": kernels},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True
    )


def _channels_last(model: EGEUNet) -> EGEUNet:
    # torch's stubs do not know this overload of Module.to.
    return model.to(memory_format=_CHANNELS_LAST)  # type: ignore[call-overload]
