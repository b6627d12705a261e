"""Time Core ML packages on this Mac by coremltools' benchmarker and write the bench's JSON.

It needs macOS and coremltools; without --data the images are synthetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from egeunet.benchmarks.apple.core_ml import UNITS
from egeunet.benchmarks.apple.mac_report import MacOptions, mac_report
from egeunet.benchmarks.evaluation_report import check_writable, write_json
from egeunet.benchmarks.labelled_images import labelled_folder, synthetic_images
from egeunet.benchmarks.sharding import Shard
from egeunet.model.cli import Parser, command
from egeunet.model.errors import GateError
from egeunet.model.packaged import shipped_weights


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="mac", description=__doc__)
    p.add_argument("files", nargs="+", metavar="PACKAGE", type=Path, help=".mlpackage folders")
    p.add_argument("--reference", metavar="F", type=Path, help="default: the shipped weights")
    p.add_argument("--units", metavar="U", nargs="+", default=list(UNITS),
                   help=f"some of {', '.join(UNITS)} (default: all of these)")  # fmt: skip
    p.add_argument("--data", metavar="DIR", type=Path, help="images with masks")
    p.add_argument("--split", help="split or 'all' (default: test if there is one, else all)")
    p.add_argument("--limit", metavar="N", type=int, default=20, help="images (default: 20)")
    p.add_argument("--runs", metavar="N", type=int, default=200, help="timed inferences")
    p.add_argument("--json", metavar="F", type=Path, required=True, help="write the report there")
    return p


@command("mac")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see --help."""
    options = parser().parse_args(arguments)
    chosen = MacOptions(tuple(options.units), options.runs)
    check_writable(options.json)
    source = labelled_folder(options.data, options.split) if options.data else synthetic_images()
    images = source.take(Shard(), options.limit)
    weights = options.reference or shipped_weights()
    report = mac_report(options.files, weights, images, chosen)
    for row in report["rows"]:
        print(f"{row['id']}: {row['latency']['median_ms']:.3f} ms (median), {row['note']}")
    for entry in report["skipped"]:
        print(f"skipped {entry['file']}, {entry['runtime']}: {entry['reason']}")
    write_json(options.json, report)
    if failed := report["gates_failed"]:
        names = ", ".join(f"{gate['name']} of {gate['row']}" for gate in failed)
        raise GateError(f"{len(failed)} gates failed: {names}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(None))
