"""egeunet-bench: parity, latency and size of model files, against gates.toml.

Without FILE the shipped weights (or --weights) are measured in every format and runtime that
is installed: files in --out are taken, missing ones exported. Without --data the images are
synthetic, and the report says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from egeunet.benchmarks.android.options import add_arguments, options_from
from egeunet.benchmarks.arm64.cpus import CPUS, DEFAULT_CPU
from egeunet.benchmarks.bench import Bench
from egeunet.benchmarks.candidates import Choice
from egeunet.benchmarks.elsewhere import ELSEWHERE, Elsewhere
from egeunet.benchmarks.evaluation_report import check_writable
from egeunet.benchmarks.gallery import gallery
from egeunet.benchmarks.labelled_images import (
    DEFAULT_COUNT,
    LabelledImages,
    labelled_folder,
    synthetic_images,
)
from egeunet.benchmarks.latency import FULL, QUICK
from egeunet.benchmarks.outputs import Outputs, require_gates
from egeunet.benchmarks.own_runtimes import REFERENCE
from egeunet.benchmarks.runtimes import known_runtimes
from egeunet.benchmarks.sharding import Shard
from egeunet.benchmarks.steps import Steps
from egeunet.benchmarks.validity import usable_cores
from egeunet.export.runners import open_runner
from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError
from egeunet.model.packaged import shipped_weights

#: Of the picture.
_ROWS = 4
_EXAMPLES = """\
examples:
  egeunet-bench --quick --html build/bench.html
  egeunet-bench --data ISIC2017 --json build/bench.json
  egeunet-bench build/egeunet_int8.tflite --where
  egeunet-bench --recipes --data ISIC2017 --runtime litert-xnnpack litert-arm64
  egeunet-bench --weights build/run/weights.safetensors --data my_data --compare old.json
  egeunet-bench --runtime litert-arm64 --model build/egeunet_int8.tflite
"""


def parser() -> Parser:
    """The command line of egeunet-bench."""
    p = Parser(prog="egeunet-bench", description=__doc__, epilog=_EXAMPLES)
    p.add_argument(
        "files", nargs="*", metavar="FILE", type=Path, help="model files (default: all formats)"
    )
    p.add_argument(
        "--model", nargs="+", metavar="FILE", type=Path, action="extend", default=[],
        help="the same as FILE",
    )  # fmt: skip
    p.add_argument(
        "--weights", "--reference", metavar="F", type=Path,
        help="what they were made from, the reference (default: the shipped weights)",
    )  # fmt: skip
    p.add_argument("--recipes", action="store_true", help="every recipe of the .tflite file")
    p.add_argument("--out", metavar="DIR", type=Path, default=Path("build"), help="default: build")
    p.add_argument(
        "--runtime", metavar="NAME", nargs="+", action="extend", default=[],
        help="only these (--list names them)",
    )  # fmt: skip
    p.add_argument(
        "--threads", metavar="N", nargs="+", type=_threads, default=["1", "all"],
        help="thread counts or 'all' (default: 1 all)",
    )  # fmt: skip
    p.add_argument("--quick", action="store_true", help="a quarter of the runs, rough latencies")
    p.add_argument("--where", action="store_true", help="if a gate fails, name the first tensor")
    data = p.add_argument_group("images")
    data.add_argument("--data", metavar="DIR", type=Path, help="images with masks")
    data.add_argument("--split", help="split or 'all' (default: test if there is one, else all)")
    data.add_argument("--limit", metavar="N", type=int, help="the first N images only")
    files = p.add_argument_group("report")
    files.add_argument("--json", metavar="F", type=Path, help="write the report there")
    files.add_argument("--markdown", metavar="F", type=Path, help="write the table there")
    files.add_argument("--html", metavar="F", type=Path, help="write a page to look at there")
    files.add_argument("--pictures", metavar="F", type=Path, help="draw masks of FILEs as a PNG")
    files.add_argument("--compare", metavar="OLD", type=Path, help="what changed since this JSON")
    files.add_argument("--quiet", action="store_true", help="no progress bar")
    files.add_argument("--list", action="store_true", help="list the runtimes and stop")
    arm64 = p.add_argument_group("emulated ARM64 (litert-arm64, onnxruntime-arm64)")
    arm64.add_argument("--setup", choices=["arm64"], help="fetch what the emulation needs and stop")
    arm64.add_argument("--cpu", default=DEFAULT_CPU, help=f"one of {', '.join(CPUS)}")
    arm64.add_argument("--root", metavar="DIR", type=Path, help="default: in the user's cache")
    add_arguments(p)
    return p


@command("egeunet-bench")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``egeunet-bench --help``."""
    options = parser().parse_args(arguments)
    if options.setup:
        from egeunet.benchmarks.arm64 import setup

        setup(options.root, print)
        return 0
    if options.list:
        print(_runtime_list(options))
        return 0
    files = tuple(dict.fromkeys([*options.files, *options.model]))
    outputs = Outputs(options.json, options.markdown, options.html, options.compare)
    check_writable(options.pictures)
    if options.pictures is not None and not files:
        raise InputError("--pictures needs FILEs to draw the masks of")
    if options.recipes and files:
        raise InputError("--recipes exports the files that it measures; leave FILEs out")
    weights = options.weights or shipped_weights()
    images = _images(options)
    bench = Bench(
        _choice(options, weights, files),
        images,
        _elsewhere(options, tuple(name for name in options.runtime if name in ELSEWHERE)),
        out=options.out,
        recipes=options.recipes,
        find_where=options.where,
        pictures=options.html is not None or options.json is not None,
    )
    report = bench.run(Steps(quiet=options.quiet))
    outputs.give(report)
    if options.pictures is not None:
        runners = {path.name: open_runner(path) for path in (weights, *files)}
        write_bytes(options.pictures, gallery(runners, images, _ROWS))
    require_gates(report)
    return 0


def _choice(options: argparse.Namespace, weights: Path, files: tuple[Path, ...]) -> Choice:
    here = tuple(name for name in options.runtime if name not in ELSEWHERE)
    if options.runtime and not here:
        here = (REFERENCE,)
    threads = dict.fromkeys(usable_cores() if n == "all" else int(n) for n in options.threads)
    return Choice(
        weights,
        tuple(path for path in files if path != weights),
        named=bool(files),
        runtimes=here,
        threads=tuple(threads),
        conversions=options.out / "peers",
        quick=options.quick,
    )


def _elsewhere(options: argparse.Namespace, names: tuple[str, ...]) -> Elsewhere:
    phone = options_from(options, runs=(QUICK if options.quick else FULL).runs)
    return Elsewhere(names, options.cpu, options.root, phone)


def _images(options: argparse.Namespace) -> LabelledImages:
    if options.data is not None:
        return labelled_folder(options.data, options.split).take(Shard(), options.limit)
    if options.split:
        raise InputError("--split needs --data DIR")
    return synthetic_images(options.limit or DEFAULT_COUNT).take(Shard(), options.limit)


def _runtime_list(options: argparse.Namespace) -> str:
    """Every runtime and whether it can be used here."""
    known = {each.name: (each.problem(), each.note, each.peer) for each in known_runtimes()}
    nothing = _elsewhere(options, ())
    known |= {name: (nothing.problem(name), "not this machine", False) for name in ELSEWHERE}
    lines = []
    for name, (problem, note, peer) in known.items():
        kind = "peer, " if peer else ""
        state = f"not here: {problem}" if problem else f"ready{f' ({note})' if note else ''}"
        lines.append(f"{name:<26} {kind}{state}")
    return "\n".join(lines)


def _threads(text: str) -> str:
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a positive number or 'all', got {text!r}")
    return text
