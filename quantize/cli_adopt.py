"""egeunet-quantize adopt: a recipe of finetune for weights that were trained on after it.

The int8 network stays as it is. Its file is measured on held-out training images beside the
weights that it shall stand for, and the recipe that is written says what came out. Exit code 1,
and nothing is written, if it loses more than --max-drop points there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from egeunet.model.errors import GateError, InputError, needs_extra

EXAMPLES = """\
examples:
  egeunet-quantize adopt --data ISIC2017 --recipe build/int8.safetensors \\
      --weights build/last/weights.safetensors --out build/adopted.safetensors
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The command's own options."""
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="images and masks")
    p.add_argument("--recipe", type=Path, required=True, metavar="F", help="of finetune")
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument("--size", type=int, metavar="S", help="input side (default: contract's)")
    p.add_argument("--hold-out", type=int, default=15, metavar="K", help="each K-th (default: 15)")
    p.add_argument("--max-drop", type=float, default=1.5, metavar="P", help="points (default: 1.5)")
    p.add_argument("--out", type=Path, required=True, metavar="F", help="recipe (.safetensors)")
    p.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    with needs_extra("torch"):
        from egeunet.export.exporter import load_source
        from egeunet.quantize.adoption import adopted
    from egeunet.export.request import ExportRequest
    from egeunet.quantize.held_out import held_out_pictures
    from egeunet.quantize.recipe_file import StaticRecipe
    from egeunet.quantize.search import check_drop

    check_drop(options.max_drop)
    if options.out.suffix != ".safetensors":
        raise InputError(f"--out must end in .safetensors, got {options.out}")
    recipe = StaticRecipe.load(options.recipe)
    source = load_source(
        ExportRequest("tflite", "int8", weights=options.weights, size=options.size)
    )
    side = source.contract.height, source.contract.width
    data = held_out_pictures(
        options.data, *side, every=options.hold_out, progress=not options.quiet
    )
    found = adopted(recipe, source, data)
    iou, reference = found.details["validation_iou"], found.details["reference_iou"]
    drop = 100 * (reference - iou)
    said = (
        f"{len(data)} held-out images: IoU {iou:.4f} (reference {reference:.4f}), "
        f"mask IoU with the reference {found.details['mask_iou']:.4f}"
    )
    if drop > options.max_drop:
        raise GateError(f"{options.recipe}: drop {drop:.2f} > {options.max_drop:g} points; {said}")
    found.save(options.out)
    print(f"{options.out}: {said}")
    return 0
