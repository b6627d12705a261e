"""egeunet-data: check a data folder, resize it once, or write synthetic pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command

_EXAMPLES = """\
examples:
  egeunet-data check ISIC2017
  egeunet-data prepare ISIC2017 --out build/isic2017_256 --size 256
  egeunet-data synthetic --out build/synthetic --count 16
"""
_LAYOUTS = """\
DIR holds one of: the ISIC 2017 or 2018 Task 1 archives as they unpack; train/images and
train/masks (val/..., test/...); images/ and masks/. A file split*.csv in it (columns id
and split) overrides the folders' splits.
"""


def parser() -> Parser:
    """The command line of egeunet-data."""
    main = Parser(prog="egeunet-data", description=__doc__, epilog=_EXAMPLES)
    commands = main.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    check = commands.add_parser(
        "check",
        help="report what a folder holds and what is wrong with it",
        description=_LAYOUTS + "\nEvery image and mask is decoded. Exit code 2 for any problem.",
        epilog="example:\n  egeunet-data check ISIC2017 --json build/check.json\n",
    )
    check.add_argument("dir", metavar="DIR", help="the data folder")
    check.add_argument("--split-csv", metavar="F", help="columns id and split (default: in DIR)")
    check.add_argument("--no-masks", action="store_true", help="images need no masks")
    check.add_argument("--json", metavar="F", help="write the report here, too")
    check.set_defaults(run=_check)

    prepare = commands.add_parser(
        "prepare",
        help="resize a data set once into a compact cache",
        description=_LAYOUTS + "\nThe cache can be given wherever a data folder can.",
        epilog="example:\n  egeunet-data prepare ISIC2017 --out build/isic2017_256 --size 256\n",
    )
    prepare.add_argument("dir", metavar="DIR", help="the data folder")
    prepare.add_argument("--out", metavar="CACHE", required=True, help="the folder to make")
    prepare.add_argument("--size", type=int, default=256, help="side in pixels (default: 256)")
    prepare.add_argument("--split-csv", metavar="F", help="columns id and split (default: in DIR)")
    prepare.set_defaults(run=_prepare)

    synthetic = commands.add_parser(
        "synthetic",
        help="write made-up dermoscopy pictures with masks",
        description="Pictures made from numbers: for trying things out, never for results.",
        epilog="example:\n  egeunet-data synthetic --out build/synthetic --count 16 --seed 1\n",
    )
    synthetic.add_argument("--out", metavar="DIR", required=True, help="the folder to make")
    synthetic.add_argument("--count", metavar="N", type=int, default=16, help="default: 16")
    synthetic.add_argument("--size", type=int, default=256, help="side in pixels (default: 256)")
    synthetic.add_argument("--seed", type=int, default=0, help="another series (default: 0)")
    synthetic.set_defaults(run=_synthetic)
    return main


@command("egeunet-data")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-data --help``."""
    options = parser().parse_args(arguments)
    return int(options.run(options))


def _check(options: argparse.Namespace) -> int:
    from egeunet.model.data.report import examine

    report = examine(options.dir, not options.no_masks, options.split_csv, progress=True)
    print("\n".join(report.lines()))
    if options.json:
        write_bytes(options.json, (json.dumps(report.to_dict(), indent=2) + "\n").encode())
    return 2 if report.problems else 0


def _prepare(options: argparse.Namespace) -> int:
    from egeunet.model.data.cache import prepare
    from egeunet.model.data.dataset import find_dataset

    dataset = find_dataset(options.dir, split_csv=options.split_csv)
    data = prepare(dataset, options.out, options.size, options.size)
    print(f"{options.out}: {len(data)} images at {options.size}x{options.size}, {dataset.splits}")
    return 0


def _synthetic(options: argparse.Namespace) -> int:
    from egeunet.model.data.synthetic_files import write_synthetic

    write_synthetic(options.out, options.count, options.size, options.seed)
    print(f"{options.out}: {options.count} synthetic images in images/, their masks in masks/")
    return 0
