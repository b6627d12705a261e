"""A run of one or more recipes, each beginning with the best weights of the one before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from egeunet.model.checkpoint import FILE_NAME, TrainingState
from egeunet.model.config import EGEUNetConfig
from egeunet.model.contract import ModelContract
from egeunet.model.data.prepared import PreparedData
from egeunet.model.distributed import World
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.pictures import Pictures
from egeunet.model.recipe import Recipe
from egeunet.model.training import Trainer
from egeunet.model.training_log import draw_curves, write_log
from egeunet.model.weights import load_weights, save_weights

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Run:
    """One folder: of a single recipe, or with a folder ``phaseN`` for each of several.

    Attributes:
        folder: where the final ``weights.safetensors``, its log and its curves end up.
        recipes: in order.
        initial: weights that the first one begins with; drawn from its seed if None.
        config: the architecture; the default is that of ``initial``, or the paper's.
        resume: go on where an interrupted run stopped.

    Raises:
        InputError: the folder holds a run already and ``resume`` is not set.
    """

    folder: Path
    recipes: tuple[Recipe, ...]
    initial: Path | None = None
    resume: bool = False
    config: EGEUNetConfig | None = None

    def __post_init__(self) -> None:
        if not self.recipes:
            raise InputError("a run needs at least one recipe")
        begun = [folder for folder in self.folders if (folder / FILE_NAME).exists()]
        if begun and not self.resume:
            raise InputError(
                f"{begun[0]} holds a run already; add --resume or choose another --out"
            )
        if self.resume and not begun:
            raise InputError(f"nothing to resume: {self.folders[0] / FILE_NAME} does not exist")

    @property
    def folders(self) -> tuple[Path, ...]:
        """One for each recipe."""
        if len(self.recipes) == 1:
            return (self.folder,)
        return tuple(self.folder / f"phase{i}" for i in range(1, len(self.recipes) + 1))

    @property
    def weights(self) -> Path:
        """The file that the run ends with."""
        return self.folder / WEIGHTS

    def train(
        self,
        training: PreparedData,
        validation: PreparedData,
        *,
        compiled: bool,
        progress: bool,
        world: World | None = None,
    ) -> float:
        """Run what is not yet done.

        Args:
            training, validation: uint8 images and masks at the last stage's size.
            world: the processes that do it together; process 0 writes.

        Returns:
            The best pooled IoU of the last recipe on ``validation``, in 0..1.

        Raises:
            InputError, KeyboardInterrupt: as :class:`Trainer`.
        """
        world = world or World()
        world.wait()  # all have looked into the folder before one writes there
        held_out = Pictures.from_arrays(validation.images, validation.masks)
        initial = None if self.initial is None else load_weights(self.initial)[0]
        config = initial.config if self.config is None and initial is not None else self.config
        if initial is not None and config is not None and initial.config != config:
            raise InputError(f"{self.initial}: its network is another one than --ablation names")
        log: list[dict[str, float]] = []
        steps = 0
        for folder, recipe in zip(self.folders, self.recipes, strict=True):
            repeats = recipe.repeats_of(training.ids)
            trainer = Trainer(
                recipe,
                Pictures.from_arrays(training.images, training.masks, repeats),
                held_out,
                folder,
                config=config,
                initial=initial,
                resume=(folder / FILE_NAME).exists(),
                compiled=compiled,
                progress=progress,
                world=world,
                on_validation=lambda state, folder=folder: write_log(folder, state),  # type: ignore[misc]
            )
            state = trainer.run()
            initial = trainer.averaged
            initial.load_state_dict(state.best)
            log += [{**row, "step": row["step"] + steps} for row in state.log]
            steps += state.step
            if world.main:
                _write(folder, state, initial, recipe)
        if folder != self.folder and world.main:
            # The whole run's log, its steps counted through.
            _write(self.folder, replace(state, log=log), trainer.averaged, recipe)
        return state.best_iou


def _write(folder: Path, state: TrainingState, best: EGEUNet, recipe: Recipe) -> None:
    size = recipe.stages[-1].size
    save_weights(folder / WEIGHTS, best, ModelContract(height=size, width=size))
    write_log(folder, state)
    draw_curves(folder, state)
