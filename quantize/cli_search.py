"""egeunet-quantize search: mixed precision that holds a drop.

Starts with everything in int8 and returns groups of operators to float32, the most harmful
first, until the pooled IoU on held-out training images drops by no more than --max-drop points;
how many is found by bisection, with real files run by LiteRT. The result is a recipe for
egeunet-export --recipe. Exit code 1 if the drop cannot be held.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from egeunet.model.errors import InputError
from egeunet.quantize.cli_measuring import (
    Setup,
    add_measuring_arguments,
    measured_rows,
    prepared_setup,
)
from egeunet.quantize.operator_groups import operator_groups, outputs_of

EXAMPLES = """\
examples:
  egeunet-quantize search --data ISIC2017 --max-drop 0.2 --out build/recipe.json
  egeunet-export --format tflite --int8 --recipe build/recipe.json
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The command's own options."""
    add_measuring_arguments(p)
    p.add_argument("--max-drop", type=float, default=0.2, metavar="P", help="points (default: 0.2)")
    p.add_argument("--sensitivity", type=Path, metavar="F", help="ranking, by egeunet-quantize "
                   "sensitivity (default: measured on the same images)")  # fmt: skip
    p.add_argument("--out", type=Path, required=True, metavar="F", help="the recipe, a JSON")


def run(options: argparse.Namespace) -> int:
    """Rank, bisect, print the steps, write the recipe."""
    from tqdm import tqdm

    from egeunet.quantize.search import Step, check_drop, fewest_kept, table

    check_drop(options.max_drop)
    if options.out.suffix != ".json":
        raise InputError(f"expected a file name with .json, got {options.out}")
    setup = prepared_setup(options)
    progress = options.out.with_suffix(".progress.json")
    ranking = _ranking(setup, options, progress)
    from egeunet.quantize.calibration import ids_sha256
    from egeunet.quantize.file_measure import FileMeasure
    from egeunet.quantize.mixed_recipe import MixedRecipe

    measure = FileMeasure(setup.graph, setup.calibration, setup.source, setup.data, ranking)
    silent = True if options.quiet else None
    with tqdm(unit="file", disable=silent) as bar:

        def counted(groups: int) -> Step:
            step = measure(groups)
            bar.set_postfix_str(f"{groups} of {len(ranking)} groups float32: {step.iou_drop:+.3f}")
            bar.update()
            return step

        best, steps = fewest_kept(len(ranking), counted, options.max_drop)
    kept = ranking[: best.groups]
    MixedRecipe(
        kept, options.max_drop, best, tuple(steps), setup.calibration, options.optimize,
        setup.data_name, len(setup.data), ids_sha256(setup.data.ids), measure.float_iou,
    ).save(options.out)  # fmt: skip
    progress.unlink(missing_ok=True)
    print(table(steps))
    print(f"{options.out}: {best.groups} of {len(ranking)} groups in float32, drop "
          f"{best.iou_drop:+.3f} points (at most {options.max_drop:g}), float IoU "
          f"{measure.float_iou:.4f}, {setup.data_name}: {', '.join(kept) or 'none'}")  # fmt: skip
    return 0


def _ranking(setup: Setup, options: argparse.Namespace, progress: Path) -> tuple[str, ...]:
    from egeunet.quantize.sensitivity_report import SensitivityReport

    if options.sensitivity is None:
        print("ranking the groups, one at a time in int8", file=sys.stderr)
        groups = operator_groups(setup.graph, options.by, options.scopes)
        report = measured_rows(setup, groups, progress, options.quiet)
    else:
        report = SensitivityReport.load(options.sensitivity)
        made, asked = (report.weights_sha256, report.graph_sha256), (
            setup.source.sha256, setup.graph.structure_sha256(),
        )  # fmt: skip
        if made != asked:
            raise InputError(f"{options.sensitivity}: measured on other weights or another graph")
    names = tuple(row.name for row in report.rows)
    if not outputs_of(setup.graph, names):
        raise InputError("no group to return to float32; give another --sensitivity")
    return names
