"""The report of egeunet-evaluate: JSON for programs, a few lines for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from egeunet.benchmarks.evaluate import Evaluation
from egeunet.benchmarks.labelled_images import SYNTHETIC, LabelledImages
from egeunet.benchmarks.sharding import Shard
from egeunet.export.provenance import environment
from egeunet.model.atomic import explained, write_bytes
from egeunet.model.errors import OutputError

SCHEMA_VERSION = 1


def evaluation_report(
    evaluation: Evaluation,
    images: LabelledImages,
    model: dict[str, Any],
    reference: dict[str, Any] | None = None,
    *,
    shard: Shard | None = None,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """The whole report as JSON-ready values; ``model`` is from ``describe_model``."""
    report = {
        "schema_version": SCHEMA_VERSION,
        **evaluation.to_dict(),
        "data": images.name,
        "split": images.split,
        "layout": images.layout,
        "shard": str(shard or Shard()),
        "model": model,
        "environment": environment(),
        "seconds": seconds,
    }
    if reference is not None:
        report["reference"] = {**report["reference"], "model": reference}
    return report


def report_text(report: dict[str, Any]) -> str:
    """The report in lines for a terminal."""
    model = report["model"]
    lines = [
        ("model", f"{model['file']}, {model['bytes']:,} bytes, {model['runtime']}"),
        ("data", f"{report['data']}, split {report['split']}, {report['images']} images"),
        ("layout", report["layout"]),
        ("protocol", report["protocol"]),
        ("IoU (pooled)", _percent(report["iou"])),
        ("Dice (pooled)", _percent(report["dice"])),
        ("mean Jaccard", _percent(report["mean_jaccard"])),
        ("mean Dice", _percent(report["mean_dice"])),
        ("thresholded Jaccard", _percent(report["thresholded_jaccard"])),
        ("sensitivity", _percent(report["sensitivity"])),
        ("specificity", _percent(report["specificity"])),
        ("accuracy", _percent(report["accuracy"])),
        ("constant masks", str(report["constant_masks"])),
    ]
    if report["shard"] != "1/1":
        lines.insert(2, ("shard", f"{report['shard']}: these are not the scores of the whole set"))
    if report["data"] == SYNTHETIC:
        lines.append(("note", "synthetic images: says nothing about real ones; give --data DIR"))
    if report["reference"]:
        other = report["reference"]
        lines += [
            ("reference", f"{other['model']['file']}, IoU {_percent(other['scores']['iou'])}"),
            ("IoU drop", f"{other['iou_drop_points']:.3f} points"),
            ("mask agreement", _percent(other["mask_agreement"])),
            ("IoU between masks", _percent(other["mask_iou"])),
            ("max abs difference", f"{other['max_abs_difference']:.3g}"),
        ]
    return "\n".join(f"{name:<20} {value}" for name, value in lines)


def write_json(path: str | Path, report: dict[str, Any]) -> None:
    """Write the report, whole or not at all."""
    write_bytes(path, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def check_writable(path: str | Path | None) -> None:
    """Find out before the work, not after it, that a report cannot be written.

    Raises:
        OutputError: the path is a folder, or its folder cannot be made or written.
    """
    if path is None:
        return
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError(f"{path} is a folder; expected to write a file there")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission; choose a folder you may write to")


def _percent(value: float | None) -> str:
    return "undefined (no such pixel in the truth)" if value is None else f"{100 * value:.3f} %"
