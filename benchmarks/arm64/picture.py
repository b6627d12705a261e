"""The profile as a picture: instructions by kernel, and by operator along the network."""

from __future__ import annotations

import io
import os
from typing import Any

from egeunet.benchmarks.arm64.operators import BETWEEN
from egeunet.model.errors import InputError, needs_extra

_KERNELS = 16
_SYMBOL_WIDTH = 60


def profile_png(report: dict[str, Any]) -> bytes:
    """Draw the kernels with the greatest counts and, if counted, every operator in order.

    Args:
        report: of :func:`count_report`.

    Returns:
        The bytes of a PNG file, 1200 pixels wide.

    Raises:
        InputError: a report without counts.
        MissingExtraError: matplotlib is absent.
    """
    with needs_extra("train"):
        os.environ.setdefault("MPLBACKEND", "Agg")
        from matplotlib.figure import Figure
    if not report.get("kernels"):
        raise InputError("nothing was counted, so there is no profile to draw")
    operators = [row for row in report["operators"] if row["name"] != BETWEEN]
    heights = [1.0, 0.8] if operators else [1.0]
    figure = Figure(figsize=(12, 5.5 * sum(heights)), dpi=100, layout="constrained")
    axes = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    total = report["instructions"]
    figure.suptitle(
        f"{report['file']}: {total / 1e6:.1f} M instructions an inference on {report['cpu']} "
        f"({report['runtime']})\n{report['note']}",
        parse_math=False,
    )
    _draw_kernels(axes[0], report["kernels"], total)
    if operators:
        _draw_operators(axes[1], operators)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_kernels(axes: Any, kernels: list[dict[str, Any]], total: int) -> None:
    shown = kernels[:_KERNELS]
    rest = sum(row["instructions"] for row in kernels[_KERNELS:])
    names = [_shortened(row["symbol"]) for row in shown]
    values = [row["instructions"] / 1e6 for row in shown]
    if rest:
        names.append(f"{len(kernels) - _KERNELS} others")
        values.append(rest / 1e6)
    places = range(len(names))
    bars = axes.barh(places, values, color="#4477aa")
    axes.bar_label(bars, [f"{value * 1e6 / total:.1%}" for value in values], padding=3)
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.08)  # room for the shares
    axes.set_xlabel("million instructions, by kernel")


def _draw_operators(axes: Any, operators: list[dict[str, Any]]) -> None:
    kinds: dict[str, float] = {}
    for row in operators:
        kind = _kind(row["name"])
        kinds[kind] = kinds.get(kind, 0.0) + row["instructions"] / 1e6
    greatest = sorted(kinds, key=lambda kind: -kinds[kind])[:8]
    colours = [f"C{i}" for i in range(len(greatest))]
    for kind, colour in zip(greatest, colours, strict=True):
        places = [i for i, row in enumerate(operators) if _kind(row["name"]) == kind]
        values = [operators[i]["instructions"] / 1e6 for i in places]
        label = f"{kind} {kinds[kind]:.1f} M"
        axes.bar(places, values, width=1.0, color=colour, label=label)
    places = [i for i, row in enumerate(operators) if _kind(row["name"]) not in greatest]
    values = [operators[i]["instructions"] / 1e6 for i in places]
    axes.bar(places, values, width=1.0, color="#bbbbbb", label=f"others {sum(values):.1f} M")
    axes.set_xlabel("operators in the order of the run")
    axes.set_ylabel("million instructions")
    axes.legend(fontsize=8, ncols=3)


def _kind(name: str) -> str:
    words = name.split()
    return words[1] if len(words) == 3 else name


def _shortened(symbol: str) -> str:
    return symbol if len(symbol) <= _SYMBOL_WIDTH else symbol[: _SYMBOL_WIDTH - 3] + "..."
