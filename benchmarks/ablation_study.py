"""Trains the full network twice and each ablation once, by one schedule, and scores them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egeunet.benchmarks.evaluate import evaluate
from egeunet.benchmarks.evaluation_report import write_json
from egeunet.benchmarks.labelled_images import LabelledImages, labelled_folder, synthetic_images
from egeunet.export.provenance import sha256_of
from egeunet.export.runners import open_runner
from egeunet.model.ablations import ABLATIONS, ablated
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

if TYPE_CHECKING:
    from egeunet.model.data.prepared import PreparedData
    from egeunet.model.egeunet import EGEUNet
    from egeunet.model.pictures import Pictures
    from egeunet.model.recipe import Recipe

#: The full network's second seed: what two runs differ by is the noise of the table.
SECOND_SEED = 1
#: Side at which the paper counts multiply-accumulates.
PAPER_SIZE = 256
_SYNTHETIC = 48


@dataclass(frozen=True)
class Variant:
    """One training of the study: an ablation by name, and a seed."""

    name: str
    seed: int = 0

    @property
    def folder(self) -> str:
        """Name of the folder that it is trained in."""
        return f"{self.name}-seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """What all variants have in common.

    Attributes:
        work: folder with one folder for each variant: its checkpoint, weights and row.
        training, validation: parts of the training images.
        test: images that decide nothing and are only reported on.
        size, epochs, batch: the schedule; all else is a recipe's default.
        compiled: run the step through torch.compile.
        progress: a bar for each variant.
    """

    work: Path
    training: Pictures
    validation: Pictures
    test: LabelledImages
    size: int
    epochs: int
    batch: int
    compiled: bool = True
    progress: bool = True

    def recipe(self, seed: int) -> Recipe:
        """The schedule with a seed."""
        from egeunet.model.recipe import Recipe, Stage

        return Recipe(stages=(Stage(self.size, self.epochs, self.batch),), seed=seed)

    def run(self, variant: Variant) -> dict[str, Any]:
        """The row of a variant: read if it is finished, else trained (to the end) and scored.

        Raises:
            InputError: what lies in its folder comes from another schedule or other data.
            KeyboardInterrupt: stopped; the same call goes on.
        """
        folder = self.work / variant.folder
        file = folder / "row.json"
        made_by = {
            "recipe": json.loads(json.dumps(self.recipe(variant.seed).to_dict())),
            "network": ablated(variant.name).to_dict(),
            "training_data": self.training.fingerprint(),
            "validation_data": self.validation.fingerprint(),
            "test_data": [self.test.name, self.test.split, len(self.test.items)],
        }
        if file.exists():
            row = _read(file)
            if row.get("made_by") != made_by:
                raise InputError(
                    f"{file} is of another schedule or other data; remove {folder} or choose "
                    "another --work"
                )
            return row
        weights, state = self._train(variant, folder)
        model = _network(variant.name)
        scores = evaluate(open_runner(weights), self.test.load(_contract(self.size))).scores
        row = {
            "name": variant.name,
            "what": ABLATIONS[variant.name].what,
            "seed": variant.seed,
            "parameters": sum(p.numel() for p in model.parameters()),
            "multiply_accumulates": multiply_accumulates(model, PAPER_SIZE),
            "steps": state.step,
            "loss": state.log[-1]["loss"],
            "validation_iou": state.best_iou,
            "test": scores.to_dict(),
            "weights_sha256": sha256_of(weights),
            "made_by": made_by,
        }
        write_json(file, row)
        return row

    def _train(self, variant: Variant, folder: Path) -> tuple[Path, Any]:
        from egeunet.model.checkpoint import FILE_NAME
        from egeunet.model.training import Trainer
        from egeunet.model.training_log import write_log
        from egeunet.model.weights import save_weights

        trainer = Trainer(
            self.recipe(variant.seed), self.training, self.validation, folder,
            config=ablated(variant.name), resume=(folder / FILE_NAME).exists(),
            compiled=self.compiled, progress=self.progress,
            on_validation=lambda state: write_log(folder, state),
        )  # fmt: skip
        try:
            state = trainer.run()
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"run it again: {self.work} keeps what is done") from error
        trainer.averaged.load_state_dict(state.best)
        weights = folder / "weights.safetensors"
        save_weights(weights, trainer.averaged, _contract(self.size))
        return weights, state


def variants(only: Sequence[str] = ()) -> tuple[Variant, ...]:
    """The full network with two seeds and every ablation, or those of the given names.

    Raises:
        InputError: a name that is no ablation's.
    """
    for name in only:
        ablated(name)
    rows = [Variant("full"), Variant("full", SECOND_SEED)]
    rows += [Variant(name) for name in ABLATIONS if name != "full"]
    return tuple(row for row in rows if not only or row.name in only)


def study_data(
    folder: Path | None, size: int, hold_out_every: int = 15
) -> tuple[PreparedData, PreparedData, LabelledImages]:
    """Training and validation part at ``size``, split as egeunet-train does, and the test images.

    Args:
        folder: with splits train and test; None = synthetic pictures.

    Raises:
        InputError: no such splits, or an image that cannot be read.
    """
    from egeunet.model.data.cache import load_prepared
    from egeunet.model.data.dataset import hold_out
    from egeunet.model.data.synthetic import synthetic_dataset

    if folder is None:
        data, test = synthetic_dataset(_SYNTHETIC, size, seed=0), synthetic_images()
    else:
        test = labelled_folder(folder, "test")
        data = load_prepared(folder, size, size, splits=("train",), progress=True)
        data = data.select(data.training_ids()[0])
    training, validation = (data.select(part) for part in hold_out(data.ids, hold_out_every))
    return training, validation, test


def run_study(
    study: Study, chosen: Sequence[Variant], finished: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """The rows of all variants, in order; ``finished`` gets those so far after each."""
    rows: list[dict[str, Any]] = []
    for variant in chosen:
        rows.append(study.run(variant))
        finished(rows)
    return rows


def multiply_accumulates(model: EGEUNet, size: int) -> int:
    """Multiply-accumulates of the convolutions for one image of size x size."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, model.config.input_channels, size, size))
    return int(counter.get_total_flops()) // 2  # it counts a multiplication and an addition


def _network(name: str) -> EGEUNet:
    from egeunet.model.egeunet import EGEUNet

    return EGEUNet(ablated(name))


def _contract(size: int) -> ModelContract:
    return ModelContract(height=size, width=size)


def _read(file: Path) -> dict[str, Any]:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable ({error}); remove it") from error
    if not isinstance(row, dict):
        raise InputError(f"{file}: expected a JSON object, got {type(row).__name__}; remove it")
    return row
