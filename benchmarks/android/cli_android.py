"""Measure TFLite files on a connected Android phone and write the rows as JSON.

egeunet-bench --runtime android puts the same rows into its report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.android.file_rows import Images
from egeunet.benchmarks.android.options import add_arguments, options_from
from egeunet.benchmarks.android.rows import android_rows
from egeunet.benchmarks.evaluation_report import check_writable, write_json
from egeunet.benchmarks.labelled_images import labelled_folder, synthetic_images
from egeunet.export.runners import open_runner
from egeunet.model.cli import Parser, command


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="android", description=__doc__)
    p.add_argument("files", nargs="+", metavar="FILE", type=Path, help=".tflite files")
    p.add_argument("--data", metavar="DIR", type=Path, help="images (default: synthetic ones)")
    p.add_argument("--runs", metavar="N", type=int, default=50, help="timed inferences, at least")
    p.add_argument("--json", metavar="F", type=Path, help="write the rows there")
    add_arguments(p)
    return p


@command("android")
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see --help."""
    options = parser().parse_args(arguments)
    chosen = options_from(options, runs=options.runs)
    check_writable(options.json)
    skipped: list[dict[str, Any]] = []
    images = _images(options.files[0], options.data, chosen.images) if chosen.images else None
    rows = android_rows(options.files, images, chosen, skipped=skipped)
    for row in rows:
        row.pop("probabilities")
        latency = row["latency"]
        print(f"{row['id']}: {latency['average_ms']:.3f} ms (average), {row['note']}")
    for entry in skipped:
        print(f"skipped {entry['file']}, {entry['runtime']}: {entry['reason']}")
    if options.json is not None:
        write_json(options.json, {"rows": rows, "skipped": skipped})
    return 0


def _images(file: Path, data: Path | None, count: int) -> Images:
    source = synthetic_images(count) if data is None else labelled_folder(data, "all")
    items = list(zip(range(count), source.load(open_runner(file).contract), strict=False))
    return [image.id for _, image in items], np.stack([image.image for _, image in items])


if __name__ == "__main__":
    raise SystemExit(main(None))
