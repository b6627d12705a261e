"""What a training run leaves for people: a CSV, a JSON and a picture of its curves."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

from egeunet.model.atomic import write_bytes
from egeunet.model.checkpoint import TrainingState
from egeunet.model.errors import needs_extra

COLUMNS = ("step", "size", "epoch", "loss", "validation_iou", "learning_rate")


def write_log(folder: Path, state: TrainingState) -> None:
    """Write ``log.csv`` and ``log.json``: one row per validation."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.log)
    write_bytes(folder / "log.csv", text.getvalue().encode())
    report = {"recipe": state.recipe, "best_validation_iou": state.best_iou, "log": state.log}
    write_bytes(folder / "log.json", (json.dumps(report, indent=1) + "\n").encode())


def draw_curves(folder: Path, state: TrainingState) -> None:
    """Draw ``curves.png``: loss and validation IoU over steps, resolutions marked.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with needs_extra("train"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot()
    right = left.twinx()
    steps = [row["step"] for row in state.log]
    left.plot(steps, [row["loss"] for row in state.log], color="tab:orange")
    right.plot(steps, [row["validation_iou"] for row in state.log], color="tab:blue")
    left.set_xlabel("step")
    left.set_ylabel("training loss", color="tab:orange")
    right.set_ylabel("pooled IoU, validation part", color="tab:blue")
    for before, after in pairwise(state.log):
        if before["size"] != after["size"]:
            left.axvline(before["step"], color="grey", linestyle=":")
            note = f" {after['size']:.0f} px"
            left.annotate(note, (before["step"], 0.97), xycoords=("data", "axes fraction"))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(folder / "curves.png", buffer.getvalue())
