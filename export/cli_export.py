"""egeunet-export: one command from weights to a file that runs on the phone.

Without further arguments it takes the shipped weights and the shipped calibration, and
writes the file and its report (FILE.json) to ./build/.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from egeunet.export.registry import find_format, find_precision, formats
from egeunet.export.request import IO_TYPES, METADATA, NORMS, Artifact, ExportRequest
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError

_EXAMPLES = """\
examples:
  egeunet-export --format tflite --int8
  egeunet-export --format tflite --int8 --calibration my_photos/ --out build
  egeunet-export --format tflite --int8 --recipe recipe.json --target-bytes 120000
  egeunet-export --format onnx --weights my_weights.pth --size 320
  egeunet-export --format all
"""


def parser() -> Parser:
    """The command line of egeunet-export."""
    p = Parser(prog="egeunet-export", description=__doc__, epilog=_EXAMPLES)
    p.add_argument("--format", metavar="F", help="tflite, onnx, ort, coreml or all")
    precision = p.add_mutually_exclusive_group()
    precision.add_argument("--int8", action="store_true", help="same as --precision int8")
    precision.add_argument("--fp16", action="store_true", help="same as --precision float16")
    precision.add_argument("--precision", metavar="P", help="default: see --list")
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument("--size", type=int, metavar="S", help="input side, 32 x n (default: 256)")
    p.add_argument("--batch", type=int, default=1, metavar="N", help="images a run, onnx and ort")
    p.add_argument("--dynamic", action="store_true", help="onnx: any batch, any sides of 32 x n")
    p.add_argument("--optimize", metavar="O", default="speed", help="speed (default) or size")
    p.add_argument("--io", metavar="T", help=f"type of input and output: {', '.join(IO_TYPES)}")
    p.add_argument("--calibration", type=Path, metavar="DIR", help="images for --int8")
    p.add_argument("--norms", metavar="N", help=f"of --int8: {', '.join(NORMS)} "
                   "(default: tuned for the shipped weights, else exact)")  # fmt: skip
    p.add_argument("--recipe", type=Path, metavar="F", help="--int8 as egeunet-quantize found it")
    p.add_argument("--target-bytes", type=int, metavar="N", help="exit with 1 if a file is larger")
    p.add_argument("--out", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    p.add_argument("--metadata", metavar="M", help=f"in a .tflite: {', '.join(METADATA)} "
                   "(default: full with float input, for MediaPipe; else contract)")  # fmt: skip
    p.add_argument("--explain", action="store_true", help="print where the file's bytes are")
    p.add_argument("--no-check", action="store_true", help="do not compare with the reference")
    p.add_argument("--list", action="store_true", help="list formats and precisions, then stop")
    return p


@command("egeunet-export")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-export --help``."""
    options = parser().parse_args(arguments)
    if options.list:
        for kind in formats().values():
            named = f" (and {', '.join(kind.recipes)})" if kind.recipes else ""
            print(f"{kind.name:8} *{kind.suffix:11} {', '.join(kind.precisions)}{named}")
        return 0
    from egeunet.export.explain import explanation_of
    from egeunet.export.exporter import require_target, run_export

    artifacts = []
    for request in _requests(options):
        artifact = run_export(request)
        artifacts.append(artifact)
        _print(artifact)
        if options.explain:
            print(explanation_of(artifact.path))
    require_target(artifacts, options.target_bytes)
    return 0


def _requests(options: argparse.Namespace) -> list[ExportRequest]:
    if options.format is None:
        raise InputError("which format? give --format tflite, onnx, ort, coreml or all; see --list")
    precision = options.precision
    precision = "int8" if options.int8 else "float16" if options.fp16 else precision
    if precision is not None:
        find_precision(precision)
    kinds = formats().values() if options.format == "all" else [find_format(options.format)]
    pairs = [(kind.name, precision or kind.precisions[0]) for kind in kinds]
    if options.format == "all":
        pairs = [(k.name, p) for k in kinds for p in k.precisions if precision in (None, p)]
    rest = {"weights": options.weights, "out": options.out, "io": options.io, "size": options.size,
            "optimize": options.optimize, "batch": options.batch, "dynamic": options.dynamic,
            "calibration": options.calibration, "check": not options.no_check,
            "recipe": options.recipe, "target_bytes": options.target_bytes,
            "norms": options.norms}  # fmt: skip
    # With --format all it is for the one format that has the choice.
    metadata = {kind.name: options.metadata for kind in kinds}
    if options.format == "all":
        metadata = {"tflite": options.metadata}
    return [ExportRequest(n, p, **rest, metadata=metadata.get(n)) for n, p in pairs]


def _print(artifact: Artifact) -> None:
    report, parity = artifact.report, artifact.report["parity"]
    print(f"{artifact.path}: {report['bytes']:,} bytes, {report['operators']} operators", end="")
    if parity["checked"]:
        seen = parity["measured"]
        print(
            f"; against the reference on {parity['images']} pictures: masks agree on "
            f"{seen['agreement']:.2%} of pixels, IoU of masks {seen['mask_iou']:.3f}"
        )
    else:
        print(f"; not checked: {parity['reason']}")
