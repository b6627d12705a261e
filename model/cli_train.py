"""egeunet-train: train EGE-UNet on a folder of images and masks.

A run lives in one folder: checkpoint.pt (every four minutes at least, and at each
validation), weights.safetensors with its contract, log.csv, log.json and curves.png.
The weights kept are the averaged ones with the best pooled IoU on a validation part
that is held out of the training images; nothing is selected on test images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from egeunet.model.ablations import ABLATIONS, ablated
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError, needs_extra

if TYPE_CHECKING:
    from egeunet.model.config import EGEUNetConfig
    from egeunet.model.data.prepared import PreparedData
    from egeunet.model.distributed import World
    from egeunet.model.recipe import Recipe

_EXAMPLES = """\
examples:
  egeunet-train --data ISIC2017 --out build/run
  egeunet-train --data ISIC2017 --out build/run --resume
  egeunet-train --data ISIC2017 --out build/run --recipe isic2017     (see docs/training.md)
  egeunet-train --data ISIC2017 --out build/ablated --ablation no-mask --stages 128x40x16
  torchrun --nproc-per-node 2 $(which egeunet-train) --data ISIC2017 --out build/run
  egeunet-train --out build/try --stages 64x2x8 --no-compile      (synthetic pictures)
"""
#: How many pictures are made where no data is given.
_SYNTHETIC = 64


def parser() -> Parser:
    """The command line of egeunet-train."""
    p = Parser(prog="egeunet-train", description=__doc__, epilog=_EXAMPLES)
    p.add_argument("--data", type=Path, metavar="DIR", help="default: synthetic pictures")
    p.add_argument("--split-csv", type=Path, metavar="F", help="default: the one in DIR")
    p.add_argument("--out", type=Path, default=Path("build/run"), metavar="DIR")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    p.add_argument("--recipe", metavar="NAME", help="phases by name, such as isic2017")
    p.add_argument("--init", type=Path, metavar="F", help="weights to begin with")
    p.add_argument(
        "--stages", nargs="+", metavar="SxExB",
        help="size x epochs x batch, in order (default: 128x120x16 256x36x8)",
    )  # fmt: skip
    p.add_argument("--learning-rate", type=float, metavar="R", help="peak of AdamW (default: 2e-3)")
    p.add_argument("--ema", type=float, metavar="D", help="decay of the average (default: 0.999)")
    p.add_argument("--seed", type=int, metavar="N", help="default: 0")
    p.add_argument("--ablation", metavar="NAME", help=f"one of {', '.join(ABLATIONS)}")
    p.add_argument(
        "--device", default="auto", metavar="D",
        help="cpu, cuda or mps (default: a GPU if there is one)",
    )  # fmt: skip
    p.add_argument("--hold-out", type=int, default=15, metavar="K", help="each K-th validates")
    p.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    p.add_argument("--no-compile", action="store_true", help="do not use torch.compile")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@command("egeunet-train")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-train --help``."""
    options = parser().parse_args(arguments)
    with needs_extra("train"):
        import matplotlib  # noqa: F401 - draws the curves at the end; absence must show now
        import torch

        from egeunet.model.distributed import SaidElsewhere, joined

    recipes = _recipes(options)
    if options.threads is not None:
        if options.threads < 1:
            raise InputError(f"--threads must be 1 or more, got {options.threads}")
        torch.set_num_threads(options.threads)
    config = None if options.ablation is None else ablated(options.ablation)
    try:
        with joined(options.device) as world:
            _train(options, recipes, config, world)
    except SaidElsewhere:  # one of several processes, and not the one that knows why
        return 2
    return 0


def _train(
    options: argparse.Namespace,
    recipes: tuple[Recipe, ...],
    config: EGEUNetConfig | None,
    world: World,
) -> None:
    from egeunet.model.data.dataset import hold_out
    from egeunet.model.phases import Run

    run = Run(options.out, recipes, initial=options.init, resume=options.resume, config=config)
    data = _data(options, recipes[-1].stages[-1].size, world)
    training, validation = (data.select(part) for part in hold_out(data.ids, options.hold_out))
    _say(f"training on {len(training)} images, validating on {len(validation)}", world)
    compiled = not options.no_compile and world.device.type != "mps"  # no compiler for these
    progress = not options.quiet
    best = run.train(training, validation, compiled=compiled, progress=progress, world=world)
    if world.main:
        print(f"{run.weights}: validation IoU {best:.4f}")


def _say(line: str, world: World) -> None:
    if world.main:
        print(line, file=sys.stderr)


def _recipes(options: argparse.Namespace) -> tuple[Recipe, ...]:
    from egeunet.model.recipe import RECIPES, Recipe, Stage

    given = {
        "stages": options.stages and tuple(Stage.parse(text) for text in options.stages),
        "learning_rate": options.learning_rate,
        "ema": options.ema,
        "seed": options.seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.recipe is None:
        return (replace(Recipe(), **given),)
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"--recipe fixes what {names} would change; give one or the other")
    if options.recipe not in RECIPES:
        raise InputError(f"no recipe {options.recipe!r}; known: {', '.join(RECIPES)}")
    return RECIPES[options.recipe]


def _data(options: argparse.Namespace, size: int, world: World) -> PreparedData:
    from egeunet.model.data.cache import load_prepared
    from egeunet.model.data.synthetic import synthetic_dataset

    if options.data is None:
        _say("no --data: training on synthetic pictures", world)
        return synthetic_dataset(_SYNTHETIC, size, seed=0)
    data = load_prepared(options.data, size, size, split_csv=options.split_csv, progress=world.main)
    kept, left_out = data.training_ids()
    if left_out:
        _say(f"left out, as it equals a test image: {', '.join(left_out)}", world)
    return data.select(kept)
