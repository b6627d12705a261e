"""The table of ablations: ``python -m egeunet.benchmarks.ablations``.

Trains the full network with two seeds and each ablation with one, all by the same reduced
schedule, and writes a page and, beside it, the JSON that it is made from. Stopped and
started again with the same arguments, it goes on; finished variants are kept in --work.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egeunet.benchmarks.evaluation_report import check_writable, write_json
from egeunet.benchmarks.labelled_images import SYNTHETIC
from egeunet.export.provenance import environment
from egeunet.model.atomic import write_bytes
from egeunet.model.cli import Parser, command
from egeunet.model.errors import InputError, needs_extra

SCHEMA_VERSION = 1
_EXAMPLES = """\
examples:
  python -m egeunet.benchmarks.ablations --data ISIC2017 --threads 1
  python -m egeunet.benchmarks.ablations --epochs 1 --size 32 --batch 8 --no-compile \\
      --only full no-mask --work build/try --out build/try.md          (synthetic pictures)
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="ablations", description=__doc__, epilog=_EXAMPLES)
    p.add_argument("--data", type=Path, metavar="DIR", help="with splits train and test")
    p.add_argument("--epochs", type=int, default=40, metavar="N", help="default: 40")
    p.add_argument("--size", type=int, default=128, metavar="S", help="side (default: 128)")
    p.add_argument("--batch", type=int, default=16, metavar="B", help="default: 16")
    p.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    p.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these variants only")
    p.add_argument("--work", type=Path, default=Path("build/ablations"), metavar="DIR")
    p.add_argument("--out", type=Path, default=Path("docs/ablations.md"), metavar="F")
    p.add_argument("--no-compile", action="store_true", help="do not use torch.compile")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p


@command("ablations")
def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not yet trained, and write the page."""
    options = parser().parse_args(arguments)
    with needs_extra("train"):
        import torch

        from egeunet.model.pictures import Pictures
    from egeunet.benchmarks.ablation_study import Study, run_study, study_data, variants
    from egeunet.model.recipe import Stage

    chosen = variants(options.only)
    Stage(options.size, options.epochs, options.batch)  # its errors come before the data is read
    if options.threads is not None and options.threads < 1:
        raise InputError(f"--threads must be 1 or more, got {options.threads}")
    if options.out.suffix != ".md":
        raise InputError(f"--out must end in .md, got {options.out}; the JSON goes beside it")
    check_writable(options.out)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    training, validation, test = study_data(options.data, options.size)
    study = Study(
        options.work, Pictures.from_arrays(training.images, training.masks),
        Pictures.from_arrays(validation.images, validation.masks), test,
        options.size, options.epochs, options.batch,
        compiled=not options.no_compile, progress=not options.quiet,
    )  # fmt: skip
    about = {
        "schema_version": SCHEMA_VERSION,
        "command": _command(sys.argv[1:] if arguments is None else list(arguments)),
        "data": {"name": test.name, "split": test.split, "training": len(training),
                 "validation": len(validation), "test": len(test.items)},
        "size": options.size, "epochs": options.epochs, "batch": options.batch,
        "environment": environment(),
    }  # fmt: skip

    def write(rows: list[dict[str, Any]]) -> None:
        report = {**about, "planned": len(chosen), "rows": rows, "noise": noise(rows)}
        write_json(options.out.with_suffix(".json"), report)
        write_bytes(options.out, page(report).encode())
        last = rows[-1]
        print(f"{last['name']} seed {last['seed']}: test IoU {100 * last['test']['iou']:.2f}")

    run_study(study, chosen, write)
    return 0


def noise(rows: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """By how many points of IoU the runs of the full network differ; None if there is one."""
    full = [row for row in rows if row["name"] == "full"]
    if len(full) < 2:
        return None
    columns = {
        "validation": [row["validation_iou"] for row in full],
        "test": [row["test"]["iou"] for row in full],
    }
    return {name: 100 * (max(values) - min(values)) for name, values in columns.items()}


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    data, rows = report["data"], report["rows"]
    full = [row["test"]["iou"] for row in rows if row["name"] == "full"]
    mean = sum(full) / len(full) if full else None
    lines = [
        "# Ablations", "",
        "Made by the command below; `egeunet-train --ablation NAME` trains one of them alone.", "",
        "```", report["command"], "```", "",
        f"{report['epochs']} epochs at {report['size']} x {report['size']}, batch "
        f"{report['batch']}, on {data['training']} images of {data['name']}, for every row; the "
        f"rest is the default recipe of egeunet-train. The epoch is chosen on {data['validation']} "
        f"images held out of the training part; the {data['test']} test images chose nothing. "
        "Multiply-accumulates (convolutions) at 256 x 256; IoU pooled, percent.", "",
    ]  # fmt: skip
    if data["name"] == SYNTHETIC:
        lines += ["**Synthetic pictures: this says nothing about real ones.**", ""]
    lines += [
        "| network | seed | what is replaced | parameters | M MACs | validation IoU | test IoU "
        "| test IoU less the full network's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row, mean) for row in rows]
    lines += ["", *_reading(report["noise"], rows)]
    if len(rows) < report["planned"]:
        lines += ["", f"Unfinished: {len(rows)} of {report['planned']} rows."]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any], mean: float | None) -> str:
    iou = row["test"]["iou"]
    apart = "-" if mean is None or row["name"] == "full" else f"{100 * (iou - mean):+.2f}"
    cells = (
        row["name"], row["seed"], row["what"], f"{row['parameters']:,}",
        f"{row['multiply_accumulates'] / 1e6:.1f}", f"{100 * row['validation_iou']:.2f}",
        f"{100 * iou:.2f}", apart,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _reading(noise: dict[str, float] | None, rows: Sequence[dict[str, Any]]) -> list[str]:
    if noise is None:
        return ["The noise is not known: it takes both runs of the full network."]
    full = [row["test"]["iou"] for row in rows if row["name"] == "full"]
    above = [row["name"] for row in rows if row["test"]["iou"] > max(full)]
    verdict = (
        f"On the test images above both of them: {', '.join(above)}."
        if above
        else "On the test images no other row is above the better of them."
    )
    return [
        f"The two runs of the full network differ by {noise['validation']:.2f} points on the "
        f"validation part and {noise['test']:.2f} on the test images: less than that says nothing. "
        + verdict
    ]


def _command(arguments: Sequence[str]) -> str:
    """The command as one would type it elsewhere: of an absolute path only the name."""
    shown = [Path(a).name if Path(a).is_absolute() else a for a in arguments]
    return shlex.join(["python", "-m", "egeunet.benchmarks.ablations", *shown])


if __name__ == "__main__":
    raise SystemExit(main(None))
