"""egeunet-quantize finetune: an int8 network without dynamic norms, distilled from the
float reference."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egeunet.model.errors import InputError, needs_extra

if TYPE_CHECKING:
    from egeunet.export.request import Source
    from egeunet.model.data.prepared import PreparedData
    from egeunet.quantize.finetune import Finetuner
    from egeunet.quantize.finetune_plan import FinetunePlan

#: Options that are fields of a StaticForm.
_FORM = ("dense_bridges", "summed_bridges", "rectified_bridges", "halved_bridge", "brief_norms",
         "kernel_scales", "pointwise_bits", "four_bit_inputs", "scale_steps", "optimize", "gelu",
         "dynamic_norms", "float_pixels", "hadamard_side", "dropped_bridges",
         "brief_attention")  # fmt: skip
COLUMNS = ("step", "phase", "epoch", "loss", "validation_iou", "reference_iou", "mask_iou")
EXAMPLES = """\
examples:
  egeunet-quantize finetune --data ISIC2017 --out build/static.safetensors
  egeunet-quantize finetune --data ISIC2017 --out build/static.safetensors --resume
  egeunet-quantize finetune --data ISIC2017 --out F --phases norms:8:2e-3 integer:8:3e-4
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The command's own options."""
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="images and masks")
    p.add_argument("--out", type=Path, required=True, metavar="F", help="recipe (.safetensors)")
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument(
        "--from", type=Path, metavar="F", dest="start", help="go on with this recipe's network"
    )
    p.add_argument("--size", type=int, metavar="S", help="input side, 32 x n (default: contract's)")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT.run/")
    p.add_argument(
        "--plan", default="default", metavar="NAME",
        help="default, isic2017-int8 or -small: what made the shipped recipes, or isic2017, which "
        "trains the weights along; options below change it",
    )  # fmt: skip
    p.add_argument("--phases", nargs="+", metavar="K:E:R", help="kind:epochs:rate, in order")
    p.add_argument("--dense-bridges", type=int, nargs="*", metavar="L", help="levels 1 to 5")
    p.add_argument("--summed-bridges", type=int, nargs="*", metavar="L", help="levels 1 to 5")
    p.add_argument("--rectified-bridges", type=int, nargs="*", metavar="L", help="levels 1 to 5")
    p.add_argument(
        "--halved-bridge", action=argparse.BooleanOptionalAction, help="GAB1 at half its size"
    )
    p.add_argument(
        "--brief-norms", action=argparse.BooleanOptionalAction,
        help="dynamic norms in the fewest operators",
    )  # fmt: skip
    p.add_argument(
        "--kernel-scales",
        metavar="S",
        help="channel, tensor, all-tensor, or one, the smallest file",
    )
    p.add_argument("--pointwise-bits", type=int, metavar="B", help="of 1x1 kernels, 8 or 4")
    p.add_argument("--four-bit-inputs", type=int, metavar="N", help="4 bits only from N inputs on")
    p.add_argument("--scale-steps", type=int, metavar="N", help="so many scales an octave; 0: any")
    p.add_argument("--optimize", metavar="O", help="the file for speed or size")
    p.add_argument("--gelu", metavar="G", help="table, or sigmoid or relu instead")
    p.add_argument(
        "--dynamic-norms", nargs="*", metavar="N", help="keep these, as ebn1 (not with sigmoid)"
    )
    p.add_argument(
        "--float-pixels", type=int, metavar="N", help="float32 on maps of at most N pixels"
    )
    p.add_argument("--hadamard-side", type=int, metavar="N", help="of the grids of Hadamard maps")
    p.add_argument("--dropped-bridges", type=int, nargs="*", metavar="L", help="levels 2 to 5")
    p.add_argument(
        "--brief-attention", nargs="*", metavar="N", help="only the second half of these GHPAs"
    )
    p.add_argument(
        "--mutual", type=float, metavar="W",
        help="train the reference along, its loss against the student weighted so",
    )  # fmt: skip
    p.add_argument("--batch", type=int, metavar="N", help="pictures a step (default: 8)")
    p.add_argument("--seed", type=int, metavar="N", help="default: 0")
    p.add_argument("--hold-out", type=int, default=15, metavar="K", help="each K-th validates")
    p.add_argument("--limit", type=int, metavar="N", help="train on the first N pictures only")
    p.add_argument("--no-compile", action="store_true", help="do not use torch.compile")
    p.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Fine-tune and write the recipe; the run's checkpoint and log lie in OUT.run/."""
    with needs_extra("torch"):
        from egeunet.model.checkpoint import FILE_NAME
        from egeunet.model.data.dataset import hold_out
        from egeunet.model.pictures import Pictures
        from egeunet.quantize.finetune import Finetuner
        from egeunet.quantize.recipe_file import StaticRecipe
        from egeunet.quantize.synthetic_pictures import with_synthetic
    from egeunet.export.exporter import load_source
    from egeunet.export.request import ExportRequest

    plan = _plan(options)
    if options.out.suffix != ".safetensors":
        raise InputError(f"--out must end in .safetensors, got {options.out}")
    folder = options.out.with_suffix(".run")
    if (folder / FILE_NAME).exists() and not options.resume:
        raise InputError(f"{folder} holds a run already; add --resume or choose another --out")
    source = load_source(
        ExportRequest("tflite", "int8", weights=options.weights, size=options.size)
    )
    data = _data(options, source)
    training, validation = (data.select(part) for part in hold_out(data.ids, options.hold_out))
    training = training.select(training.ids[: options.limit])
    print(f"training on {len(training)} images, validating on {len(validation)}", file=sys.stderr)
    repeats = plan.repeats_of(training.ids)
    pictures = Pictures.from_arrays(training.images, training.masks, repeats)
    finetuner = Finetuner(
        plan,
        source.model,
        source.contract,
        with_synthetic(pictures, plan.synthetic, source.model, source.contract),
        Pictures.from_arrays(validation.images, validation.masks),
        folder,
        start=options.start and StaticRecipe.load(options.start),
        resume=options.resume,
        compiled=not options.no_compile,
        progress=not options.quiet,
        on_validation=lambda state: write_curve(folder / "log.csv", state.log),
    )
    _finish(finetuner, source, options.out, _described(len(training), options.data, plan))
    return 0


def _described(count: int, folder: Path, plan: FinetunePlan) -> str:
    beside = f" and {plan.synthetic} synthetic ones" if plan.synthetic else ""
    return f"{count} images of {folder.name}{beside}"


def write_curve(path: Path, log: list[dict[str, Any]]) -> None:
    """Write the log as CSV: one row per validation."""
    from egeunet.model.atomic import write_bytes

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(log)
    write_bytes(path, text.getvalue().encode())


def _plan(options: argparse.Namespace) -> FinetunePlan:
    from egeunet.quantize.finetune_plan import PLANS, Phase

    if options.plan not in PLANS:
        raise InputError(f"no plan is called {options.plan!r}; there are {', '.join(PLANS)}")
    plan = PLANS[options.plan]
    form = {name: getattr(options, name) for name in _FORM}
    if options.mutual is not None:  # for all phases alike
        plan = replace(plan, phases=tuple(replace(one, mutual=None) for one in plan.phases))
    given = {
        "phases": options.phases and tuple(Phase.parse(text) for text in options.phases),
        "form": replace(plan.form, **{k: v for k, v in form.items() if v is not None}),
        "mutual": options.mutual,
        "batch": options.batch,
        "seed": options.seed,
    }
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit must be 1 or more, got {options.limit}")
    return replace(plan, **{k: v for k, v in given.items() if v is not None})


def _data(options: argparse.Namespace, source: Source) -> PreparedData:
    from egeunet.model.data.cache import load_prepared

    contract = source.contract
    data = load_prepared(options.data, contract.height, contract.width, progress=not options.quiet)
    return data.select(data.training_ids()[0])


def _finish(finetuner: Finetuner, source: Source, out: Path, data: str) -> None:
    from egeunet.export.provenance import sha256_of
    from egeunet.model.weights import save_weights
    from egeunet.quantize.finetune_result import finetuned_recipe

    network, sha256 = finetuner.run(), source.sha256
    if finetuner.plan.mutual:  # the recipe is of the weights that it was trained beside
        weights = out.with_suffix(".weights.safetensors")
        save_weights(weights, finetuner.reference, finetuner.contract)
        sha256 = sha256_of(weights)
        print(f"{weights}: the reference that was trained along; export with --weights")
    recipe = finetuned_recipe(finetuner, network, sha256, data)
    recipe.save(out)
    iou, agreement = recipe.details["validation_iou"], recipe.details["mask_iou"]
    print(
        f"{out}: validation IoU {iou:.4f} (reference {recipe.details['reference_iou']:.4f}), "
        f"mask IoU with the reference {agreement:.4f}"
    )
