"""egeunet-evaluate: metrics of any model file on a data folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from egeunet.benchmarks.accuracy_page import accuracy_page, worst_images
from egeunet.benchmarks.evaluate import evaluate
from egeunet.benchmarks.evaluation_report import (
    check_writable,
    evaluation_report,
    report_text,
    write_json,
)
from egeunet.benchmarks.labelled_images import DEFAULT_COUNT, labelled_folder, synthetic_images
from egeunet.benchmarks.progress import progress
from egeunet.benchmarks.provenance import describe_model
from egeunet.benchmarks.sharding import Shard
from egeunet.export.runners import open_runner
from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError

_HELP = """\
Scores a .safetensors, .pth, .onnx or .tflite file at its own input size.
Without --data the images are synthetic, and the report says so.
Shards: the counts of several --shard I/N runs add up; join their --per-image files.
"""
_EXAMPLES = """\
examples:
  egeunet-evaluate build/egeunet_int8.tflite --data ISIC2017 --json build/evaluation.json
  egeunet-evaluate build/egeunet_int8.tflite --reference build/run/weights.safetensors
"""


def _parser() -> Parser:
    parser = Parser(prog="egeunet-evaluate", description=_HELP, epilog=_EXAMPLES)
    parser.add_argument("model", metavar="FILE", type=Path, help="the model")
    parser.add_argument("--data", metavar="DIR", type=Path, help="images with masks")
    parser.add_argument("--split", help="split or 'all' (default: test if there is one, else all)")
    parser.add_argument("--split-csv", metavar="F", type=Path, help="CSV of id, split")
    parser.add_argument("--json", metavar="F", type=Path, help="write the report there")
    parser.add_argument("--per-image", metavar="CSV", type=Path, help="write one row per image")
    parser.add_argument(
        "--page",
        metavar="MD",
        type=Path,
        help="write a page with intervals, the paper's table and the worst images",
    )
    parser.add_argument("--reference", metavar="FILE2", type=Path, help="compare with this model")
    parser.add_argument("--threshold", type=float, help="default: that of the model's contract")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--limit", metavar="N", type=int, help="the first N images only")
    parser.add_argument("--shard", metavar="I/N", default="1/1", help="part I of N, from 1")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


@command("egeunet-evaluate")
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, evaluate, print, write."""
    options = _parser().parse_args(arguments)
    shard = Shard.parse(options.shard)
    if options.data is None and (options.split or options.split_csv):
        raise InputError("--split and --split-csv need --data DIR")
    check_writable(options.json)
    check_writable(options.per_image)
    check_writable(options.page)
    runner = open_runner(options.model, threads=options.threads)
    other = options.reference
    reference = open_runner(other, threads=options.threads) if other else None
    if options.data is None:
        images = synthetic_images(options.limit or DEFAULT_COUNT)
    else:
        images = labelled_folder(options.data, options.split, options.split_csv)
    images = images.take(shard, options.limit)
    start = time.perf_counter()
    stream = progress(images.load(runner.contract), len(images.items), quiet=options.quiet)
    result = evaluate(runner, stream, threshold=options.threshold, reference=reference)
    report = evaluation_report(
        result,
        images,
        describe_model(options.model, runner),
        describe_model(other, reference) if reference else None,
        shard=shard,
        seconds=time.perf_counter() - start,
    )
    print(report_text(report))
    if options.json is not None:
        write_json(options.json, report)
    if options.per_image is not None:
        write_bytes(options.per_image, result.per_image_csv().encode())
    if options.page is not None:
        worst = worst_images(result, images, runner.contract)
        page = accuracy_page(options.model.name, result, images, worst)
        write_bytes(options.page, page.encode())
    return 0
