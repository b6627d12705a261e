"""egeunet-predict: masks and overlays for an image or a folder of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from egeunet.benchmarks.pictures import Picture, find_pictures
from egeunet.benchmarks.predict import predict
from egeunet.benchmarks.progress import progress, say
from egeunet.benchmarks.provenance import describe_model
from egeunet.benchmarks.sharding import Shard
from egeunet.export.runners import open_runner
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError
from egeunet.model.packaged import shipped_weights

_HELP = """\
Writes NAME_mask.png (0/255, original size), NAME_overlay.png and one line of
results.jsonl per image into DIR. Subfolders are kept. Finished images are skipped
on a rerun. A shard writes results-I-of-N.jsonl; several may share one DIR.
"""
_EXAMPLES = """\
examples:
  egeunet-predict mole.jpg --model build/egeunet_int8.tflite --out masks
  egeunet-predict photos/ --out masks --shard 1/4
"""


def _parser() -> Parser:
    parser = Parser(prog="egeunet-predict", description=_HELP, epilog=_EXAMPLES)
    parser.add_argument("source", metavar="IMAGE|DIR", type=Path, help="an image or a folder")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="output folder")
    parser.add_argument("--model", metavar="FILE", type=Path, help="default: the shipped weights")
    parser.add_argument("--threshold", type=float, help="default: that of the model's contract")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--shard", metavar="I/N", default="1/1", help="part I of N, from 1")
    parser.add_argument("--overwrite", action="store_true", help="do finished images again")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


@command("egeunet-predict")
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, predict, print."""
    options = _parser().parse_args(arguments)
    shard = Shard.parse(options.shard)
    pictures = find_pictures(options.source, options.out)
    path = options.model or shipped_weights()
    runner = open_runner(path, threads=options.threads)

    def bar(todo: Sequence[Picture]) -> Iterator[Picture]:
        return progress(todo, len(todo), quiet=options.quiet)

    done = predict(
        runner,
        pictures,
        options.out,
        model=describe_model(path, runner),
        shard=shard,
        threshold=options.threshold,
        overwrite=options.overwrite,
        progress=bar,
        complain=lambda message: say(f"egeunet-predict: {message}"),
    )
    log = options.out / f"results{shard.suffix}.jsonl"
    print(f"{done.images} images: {done.predicted} predicted, {done.skipped} done before; {log}")
    if done.failed:
        raise InputError(f"{done.failed} of {done.images} images could not be read; see above")
    return 0
