"""egeunet-quantize: what lies underneath egeunet-export --int8.

calibrate records the range of every activation over a folder's training images, for the
deploy form of some weights; egeunet-export uses the recordings that are installed with the
package (quantize/shipped/) if they are of its weights and graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from egeunet.export.request import OPTIMIZATIONS, ExportRequest
from egeunet.model.cli import Parser, command

_EXAMPLES = """\
examples:
  egeunet-quantize calibrate --data ISIC2017 --out build/calibration.json
"""


def parser() -> Parser:
    """The command line of egeunet-quantize."""
    main = Parser(prog="egeunet-quantize", description=__doc__, epilog=_EXAMPLES)
    commands = main.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    p = commands.add_parser("calibrate", help="record ranges", epilog=_EXAMPLES)
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="images")
    p.add_argument("--out", type=Path, required=True, metavar="F", help="the JSON to write")
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument("--size", type=int, metavar="S", help="input side, 32 x n (default: 256)")
    p.add_argument("--optimize", default="speed", metavar="O", help=" or ".join(OPTIMIZATIONS))
    return main


@command("egeunet-quantize")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-quantize --help``."""
    options = parser().parse_args(arguments)
    request = ExportRequest(
        "tflite", "int8", weights=options.weights, size=options.size, optimize=options.optimize
    )
    from egeunet.export.exporter import load_source
    from egeunet.export.lean import build_lean_graph
    from egeunet.quantize.precision import calibration_for

    source = load_source(request)
    graph = build_lean_graph(source.model, source.contract, request.optimize)
    calibration = calibration_for(graph, source, options.data)
    calibration.save(options.out)
    print(f"{options.out}: {len(calibration.ranges)} ranges over {calibration.source}")
    return 0
