"""egeunet-quantize sensitivity: what each part of the network loses when it alone is int8.

Prints a table, most harmful first: signal to quantization noise of the output, IoU with the
float masks, and the drop of the IoU with the ground truth. Nothing is measured on test images.
Interrupted, it goes on where it stopped when it is run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from egeunet.model.errors import InputError, needs_extra
from egeunet.quantize.cli_measuring import (
    add_measuring_arguments,
    measured_rows,
    prepared_setup,
)
from egeunet.quantize.operator_groups import operator_groups

EXAMPLES = """\
examples:
  egeunet-quantize sensitivity --data ISIC2017 --out build/sensitivity.json --picture build/s.png
  egeunet-quantize sensitivity --data ISIC2017 --out F --by operator --scopes GAB1 encoder1
"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The command's own options."""
    add_measuring_arguments(p)
    p.add_argument("--out", type=Path, required=True, metavar="F", help="the JSON to write")
    p.add_argument("--picture", type=Path, metavar="F", help="bars, a PNG")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON and the picture."""
    for path, suffix in ((options.out, ".json"), (options.picture, ".png")):
        if path is not None and path.suffix != suffix:
            raise InputError(f"expected a file name with {suffix}, got {path}")
    if options.picture is not None:
        with needs_extra("train"):
            import matplotlib  # noqa: F401 - draws at the end; absence must show now
    setup = prepared_setup(options)
    groups = operator_groups(setup.graph, options.by, options.scopes)
    from egeunet.model.atomic import write_bytes
    from egeunet.quantize.sensitivity import table
    from egeunet.quantize.sensitivity_picture import sensitivity_png

    progress = options.out.with_suffix(".progress.json")
    report = measured_rows(setup, groups, progress, options.quiet)
    report.save(options.out)
    progress.unlink(missing_ok=True)
    print(table(list(report.rows)))
    if options.picture is not None:
        title = f"int8 one {options.by} at a time, {setup.data_name}"
        write_bytes(options.picture, sensitivity_png(report.rows, title))
    return 0
