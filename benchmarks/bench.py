"""Size, accuracy and latency of artefacts beside the reference they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egeunet.benchmarks.evaluate import evaluate
from egeunet.benchmarks.labelled_images import LabelledImages
from egeunet.benchmarks.latency import measure, ratio
from egeunet.benchmarks.progress import progress
from egeunet.benchmarks.provenance import describe_model
from egeunet.export.provenance import environment
from egeunet.export.report import TARGET_BYTES
from egeunet.export.runners import Runner, open_runner
from egeunet.export.runners.coreml_runner import INTERPRETER

SCHEMA_VERSION = 1


def bench(
    files: Sequence[Path],
    reference: Path,
    images: LabelledImages,
    *,
    runs: int = 50,
    threads: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure files; the first row of the report is the reference.

    Args:
        files: model files with one input size.
        reference: the weights they were made from, run in torch.
        images: for accuracy; the first one is also what latency is measured on.
        runs: timed inferences of each, in turns, on ``threads`` threads.

    Raises:
        InputError: a file that cannot be run, or of another input size.
    """
    paths = [reference, *(file for file in files if file != reference)]
    runners = {str(path): open_runner(path, threads=threads) for path in paths}
    first = next(iter(images.load(runners[str(reference)].contract))).image[None]
    # The interpreter stands for Core ML's results, not for its speed.
    timed = {name: r.bind(first) for name, r in runners.items() if r.name != INTERPRETER}
    latency = measure(timed, runs=runs)
    base = latency[str(reference)].samples_ms
    rows = []
    for path in paths:
        name, runner = str(path), runners[str(path)]
        other = None if path == reference else runners[str(reference)]
        row = _accuracy(path, runner, other, images, quiet)
        row |= {"threads": threads, "latency": None, "latency_ratio": None}
        if name in latency:
            row["latency"] = latency[name].to_dict()
            row["latency_ratio"] = ratio(latency[name].samples_ms, base)
        rows.append(row)
    return {
        "schema_version": SCHEMA_VERSION,
        "data": images.name,
        "split": images.split,
        "images": len(images.items),
        "target_bytes": TARGET_BYTES,
        "rows": rows,
        "environment": environment(),
    }


def _accuracy(
    path: Path, runner: Runner, reference: Runner | None, images: LabelledImages, quiet: bool
) -> dict[str, Any]:
    stream = progress(images.load(runner.contract), len(images.items), quiet=quiet)
    result = evaluate(runner, stream, reference=reference)
    comparison = result.comparison
    return {
        **describe_model(path, runner),
        **result.scores.to_dict(),
        "iou_drop_points": comparison.iou_drop_points if comparison else 0.0,
        "mask_agreement": comparison.mask_agreement if comparison else 1.0,
        "mask_iou": comparison.mask_iou if comparison else 1.0,
        "max_abs_diff": comparison.max_abs_difference if comparison else 0.0,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as one Markdown table."""
    head = ("file", "bytes", "IoU", "drop", "Dice", "mask IoU", "ms", "ratio")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in report["rows"]:
        cells = (
            row["file"],
            f"{row['bytes']:,}",
            f"{100 * row['iou']:.2f}",
            f"{row['iou_drop_points']:+.2f}",
            f"{100 * row['dice']:.2f}",
            f"{row['mask_iou']:.4f}",
            f"{row['latency']['median_ms']:.1f}" if row["latency"] else "-",
            f"{row['latency_ratio']:.2f}" if row["latency"] else "-",
        )
        lines.append("| " + " | ".join(cells) + " |")
    data = f"{report['images']} images of {report['data']} (split {report['split']})"
    lines += [
        "",
        f"IoU and Dice pooled over {data}; drop in points of IoU against the first row; mask IoU "
        "between a file's masks and the first row's; ms and ratio to the first row: medians, "
        f"{report['rows'][0]['threads']} thread(s), {report['environment']['platform']}.",
    ]
    return "\n".join(lines)
