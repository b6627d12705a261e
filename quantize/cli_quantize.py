"""egeunet-quantize: what lies underneath egeunet-export --int8.

calibrate records the range of every activation over a folder's training images, for the
deploy form of some weights: a recipe for egeunet-export --recipe. Without one, egeunet-export
uses the recordings that are installed with the package (quantize/shipped/) if they are of its
weights and graph.

sensitivity tells what each part of the network loses when it alone is int8; search returns the
most harmful parts to float32 until a drop holds: a recipe for egeunet-export --recipe.

finetune makes a network without dynamic norms, whose int8 file is smaller and faster, and
teaches it to give what the float network gives: a recipe for egeunet-export --recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from egeunet.export.registry import find_format
from egeunet.export.request import OPTIMIZATIONS, ExportRequest
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError, needs_extra
from egeunet.quantize import cli_finetune, cli_search, cli_sensitivity
from egeunet.quantize.range_methods import METHODS, RangeMethod

_EXAMPLES = """\
examples:
  egeunet-quantize calibrate --data ISIC2017 --out build/calibration.json
  egeunet-quantize calibrate --data ISIC2017 --method mse --out build/mse.json
  egeunet-export --format tflite --int8 --recipe build/mse.json
  egeunet-quantize calibrate --data ISIC2017 --format onnx --out build/onnx.json
"""


def parser() -> Parser:
    """The command line of egeunet-quantize."""
    main = Parser(prog="egeunet-quantize", description=__doc__, epilog=_EXAMPLES)
    commands = main.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    p = commands.add_parser("calibrate", help="record ranges", epilog=_EXAMPLES)
    p.set_defaults(run=_calibrate)
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="images")
    p.add_argument("--out", type=Path, required=True, metavar="F", help="the JSON to write")
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument("--size", type=int, metavar="S", help="input side, 32 x n (default: 256)")
    p.add_argument("--format", default="tflite", metavar="F", help="its files: tflite or onnx")
    p.add_argument("--optimize", default="speed", metavar="O", help=" or ".join(OPTIMIZATIONS))
    default = RangeMethod()
    p.add_argument("--method", default=default.name, metavar="M", help=" or ".join(METHODS))
    p.add_argument("--percentile", type=float, default=default.percentile, metavar="P",
                   help=f"share of values kept (default: {default.percentile:g})")  # fmt: skip
    p = commands.add_parser(
        "sensitivity", help="what each part loses in int8",
        description=cli_sensitivity.__doc__, epilog=cli_sensitivity.EXAMPLES,
    )  # fmt: skip
    p.set_defaults(run=cli_sensitivity.run)
    cli_sensitivity.add_arguments(p)
    p = commands.add_parser(
        "search", help="mixed precision that holds a drop",
        description=cli_search.__doc__, epilog=cli_search.EXAMPLES,
    )  # fmt: skip
    p.set_defaults(run=cli_search.run)
    cli_search.add_arguments(p)
    description, examples = cli_finetune.__doc__, cli_finetune.EXAMPLES
    p = commands.add_parser(
        "finetune", help="int8 without dynamic norms", description=description, epilog=examples
    )
    p.set_defaults(run=cli_finetune.run)
    cli_finetune.add_arguments(p)
    return main


@command("egeunet-quantize")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-quantize --help``."""
    options = parser().parse_args(arguments)
    result: int = options.run(options)
    return result


def _calibrate(options: argparse.Namespace) -> int:
    method = RangeMethod(options.method, options.percentile)
    kind = find_format(options.format)
    if "int8" not in kind.precisions:
        raise InputError(f"format {kind.name} has no int8, so that there is nothing to calibrate")
    request = ExportRequest(
        kind.name, "int8", weights=options.weights, size=options.size, optimize=options.optimize
    )
    with needs_extra("torch"):
        from egeunet.export.exporter import deploy_graph, load_source
        from egeunet.quantize.precision import calibration_for

    source = load_source(request)
    graph = deploy_graph(kind, source, request)
    calibration = calibration_for(graph, source, options.data, method)
    calibration.save(options.out)
    print(f"{options.out}: {len(calibration.ranges)} ranges over {calibration.source}, {method}")
    return 0
