"""egeunet-bench: size, accuracy and latency of model files beside the reference.

Without --data the images are synthetic, and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from egeunet.benchmarks.bench import bench, markdown
from egeunet.benchmarks.evaluation_report import check_writable, write_json
from egeunet.benchmarks.gallery import gallery
from egeunet.benchmarks.labelled_images import DEFAULT_COUNT, labelled_folder, synthetic_images
from egeunet.benchmarks.sharding import Shard
from egeunet.export.runners import open_runner
from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError
from egeunet.model.packaged import shipped_weights

#: Of the picture.
_ROWS = 4
_EXAMPLES = """\
examples:
  egeunet-bench build/egeunet_int8.tflite
  egeunet-bench build/*.tflite build/*.onnx --data ISIC2017 --json build/bench.json
"""


def parser() -> Parser:
    """The command line of egeunet-bench."""
    p = Parser(prog="egeunet-bench", description=__doc__, epilog=_EXAMPLES)
    p.add_argument("files", nargs="+", metavar="FILE", type=Path, help="model files")
    p.add_argument("--reference", metavar="F", type=Path, help="default: the shipped weights")
    p.add_argument("--data", metavar="DIR", type=Path, help="images with masks")
    p.add_argument("--split", help="split or 'all' (default: test if there is one, else all)")
    p.add_argument("--limit", metavar="N", type=int, help="the first N images only")
    p.add_argument("--runs", metavar="N", type=int, default=50, help="timed inferences of each")
    p.add_argument("--threads", metavar="N", type=int, default=1, help="default: 1")
    p.add_argument("--json", metavar="F", type=Path, help="write the report there")
    p.add_argument("--markdown", metavar="F", type=Path, help="write the table there")
    p.add_argument("--pictures", metavar="F", type=Path, help="draw masks of all files as a PNG")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@command("egeunet-bench")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-bench --help``."""
    options = parser().parse_args(arguments)
    if options.data is None and options.split:
        raise InputError("--split needs --data DIR")
    for path in (options.json, options.markdown, options.pictures):
        check_writable(path)
    if options.data is None:
        images = synthetic_images(options.limit or DEFAULT_COUNT)
    else:
        images = labelled_folder(options.data, options.split)
    images = images.take(Shard(), options.limit)
    reference = options.reference or shipped_weights()
    report = bench(
        options.files,
        reference,
        images,
        runs=options.runs,
        threads=options.threads,
        quiet=options.quiet,
    )
    print(markdown(report))
    if options.json is not None:
        write_json(options.json, report)
    if options.markdown is not None:
        write_bytes(options.markdown, (markdown(report) + "\n").encode())
    if options.pictures is not None:
        runners = {path.name: open_runner(path) for path in (reference, *options.files)}
        write_bytes(options.pictures, gallery(runners, images, _ROWS))
    return 0
