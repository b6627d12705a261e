"""Count the 64-bit Arm instructions of one inference of a model file, under QEMU.

The third invocation on one thread. With the same folder of packages the count repeats to
the instruction, whatever else the machine does. It is not time: neither cache misses nor
the width of the core enter it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from egeunet.benchmarks.arm64.cpus import CPUS, DEFAULT_CPU, cpu_named
from egeunet.benchmarks.arm64.installation import default_root, setup
from egeunet.benchmarks.arm64.picture import profile_png
from egeunet.benchmarks.arm64.report import count_report, kernels_text, operators_text, summary
from egeunet.benchmarks.evaluation_report import check_writable
from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="count", description=__doc__)
    p.add_argument("models", nargs="*", metavar="MODEL", type=Path, help=".tflite or .onnx files")
    p.add_argument("--profile", action="store_true", help="table of instructions per function")
    p.add_argument("--operators", action="store_true", help="table per operator (.tflite)")
    p.add_argument("--top", metavar="N", type=int, default=25, help="rows of --profile")
    p.add_argument("--picture", metavar="F", type=Path, help="draw the (last) profile as PNG")
    p.add_argument("--cpu", default=DEFAULT_CPU, help=f"one of {', '.join(CPUS)}")
    p.add_argument("--json", metavar="F", type=Path, help="write everything counted there")
    p.add_argument("--root", metavar="DIR", type=Path, help=f"default: {default_root()}")
    p.add_argument("--setup", action="store_true", help="first make --root (downloads 75 MB)")
    return p


@command("count")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see --help."""
    options = parser().parse_args(arguments)
    cpu, root = cpu_named(options.cpu), options.root or default_root()
    for path in (options.json, options.picture):
        check_writable(path)
    if not options.models and not options.setup:
        raise InputError("name at least one MODEL (or --setup)")
    if options.setup:
        setup(root, lambda line: print(line, flush=True))
    by_operator = options.operators or options.picture is not None
    reports = []
    for model in options.models:
        reports.append(count_report(model, root, cpu, by_operator))
        print(summary(reports[-1]), flush=True)
        if options.profile:
            print(kernels_text(reports[-1], options.top), flush=True)
        if options.operators:
            print(operators_text(reports[-1]), flush=True)
    if options.json:
        write_bytes(options.json, (json.dumps(reports, indent=2) + "\n").encode())
    if options.picture and reports:
        write_bytes(options.picture, profile_png(reports[-1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(None))
