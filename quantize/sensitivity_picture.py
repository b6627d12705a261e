"""A sensitivity as a picture: bars, the most harmful group on top."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

from egeunet.model.errors import InputError, needs_extra
from egeunet.quantize.sensitivity import Sensitivity

_MOST_BARS = 40


def sensitivity_png(rows: Sequence[Sensitivity], title: str) -> bytes:
    """Disagreement of masks and signal to noise, side by side.

    Args:
        rows: in the order to draw; the first 40 are drawn.
        title: above the picture: what was measured on what.

    Returns:
        The bytes of a PNG file, 1200 pixels wide.

    Raises:
        InputError: no row.
        MissingExtraError: matplotlib is absent.
    """
    with needs_extra("train"):
        os.environ.setdefault("MPLBACKEND", "Agg")
        from matplotlib.figure import Figure
    if not rows:
        raise InputError("no operator was measured, so there is no sensitivity to draw")
    shown = rows[:_MOST_BARS]
    if len(shown) < len(rows):
        title += f" (the {len(shown)} most harmful of {len(rows)})"
    figure = Figure(figsize=(12, 1.6 + 0.22 * len(shown)), dpi=100, layout="constrained")
    figure.suptitle(title, parse_math=False)
    masks, noise = figure.subplots(1, 2, sharey=True)
    places = range(len(shown))
    values = [100 * (1 - row.mask_iou) for row in shown]
    bars = masks.barh(places, values, color="#4477aa")
    masks.bar_label(bars, [f"{row.iou_drop:+.2f}" for row in shown], padding=3, fontsize=7)
    masks.set_xlabel("IoU lost against the float masks, points (label: against the truth)")
    masks.set_yticks(places, [row.name for row in shown], fontsize=8, parse_math=False)
    masks.invert_yaxis()
    masks.margins(x=0.12, y=0.01)  # room for the labels
    noise.barh(places, [row.sqnr_db or 0 for row in shown], color="#cc6677")
    noise.set_xlabel("signal to quantization noise of the probability, dB (none: no change)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
