"""The report of egeunet-bench, schema_version 2: its shape, its own consistency, reading a file.

Everything else in this package is made from a report that passed :func:`check_report`.
docs/benchmarks.md says what the values mean.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from egeunet.benchmarks.report.shapes import (
    COUNT,
    DURATION,
    SHARE,
    Anything,
    Flag,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Object,
    Shape,
    Text,
)
from egeunet.model.errors import InputError

#: A report as JSON-ready values.
Report = dict[str, Any]
#: One entry of ``report["rows"]``: a file in a runtime on a number of threads.
Row = dict[str, Any]

SCHEMA_VERSION = 2
TOOL = "egeunet-bench"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SCORES = ("iou", "dice", "mean_jaccard", "thresholded_jaccard", "sensitivity", "specificity")
_AGREEMENT = ("accuracy", "mask_agreement", "mask_iou")
_MILLISECONDS = ("median_ms", "p90_ms", "p95_ms", "p99_ms", "min_ms", "load_ms", "first_ms")


def _nullable(names: tuple[str, ...], shape: Shape) -> dict[str, Shape]:
    return {name: Nullable(shape) for name in names}


_WORST = Object({"image": Text(), **_nullable(("iou", "reference_iou", "mask_iou"), SHARE)})
_ACCURACY = Object(
    {
        **_nullable((*_SCORES, *_AGREEMENT), SHARE),
        **_nullable(("iou_drop_points", "dice_drop_points"), Number(-100, 100)),
        # Without an upper limit: a broken file's "probabilities" may be anything.
        **_nullable(("max_abs_diff", "mean_abs_diff"), DURATION),
        **_nullable(("constant_masks", "new_constant_masks", "non_finite"), COUNT),
        "worst": ListOf(_WORST),
    }
)
_LATENCY = Object(
    {
        **_nullable(_MILLISECONDS, DURATION),
        "samples_ms": ListOf(DURATION),
        **_nullable(("runs", "warmup", "peak_memory_bytes"), COUNT),
        "flags": ListOf(Text()),
    }
)
_RATIO = Object({"baseline": Text(), "median": DURATION, "low": DURATION, "high": DURATION})
_INSTRUCTIONS = Object(
    {
        "cpu": Text(),
        "total": COUNT,
        "shares": MapOf(SHARE),
        "kernels": ListOf(Object({"symbol": Text(), "instructions": COUNT})),
        "operators": ListOf(Object({"name": Text(), "instructions": COUNT})),
    }
)
_GATE = Object(
    {
        "name": Text(),
        "value": Nullable(Number()),
        "limit": Number(),
        "kind": Text(("min", "max")),
        "passed": Flag(),
        "reason": Text(),
    }
)
_WHERE = Object(
    {
        "tensor": Text(),
        "layer": Text(),
        "max_abs_diff": Nullable(DURATION),
        "compared": COUNT,
        "table": ListOf(MapOf(Anything())),
    }
)
_ROW = Object(
    {
        **dict.fromkeys(("id", "file", "path", "format", "sha256", "runtime"), Text()),
        **_nullable(("precision", "note"), Text()),
        "peer": Flag(),
        "threads": COUNT,
        "bytes": COUNT,
        "bytes_deflated": COUNT,
        "weight_bytes": Nullable(COUNT),
        "within_target": Flag(),
        "accuracy": Nullable(_ACCURACY),
        "latency": Nullable(_LATENCY),
        "ratio": Nullable(_RATIO),
        "instructions": Nullable(_INSTRUCTIONS),
        "gates": ListOf(_GATE),
        "where": Nullable(_WHERE),
    }
)
_PICTURE = Object(
    {
        "title": Text(),
        "row": Text(),
        "kind": Text(("worst", "difference")),
        "png_base64": Text(),
    }
)
#: The whole report.
REPORT = Object(
    {
        "created": Text(),
        "quick": Flag(),
        "duration_s": DURATION,
        "data": Object({"name": Text(), "split": Text(), "images": COUNT, "synthetic": Flag()}),
        "target_bytes": COUNT,
        "environment": MapOf(Anything()),
        "reference": Object({"file": Text(), "sha256": Text()}),
        "rows": ListOf(_ROW, at_least=1),
        "pre_post": MapOf(Nullable(MapOf(Anything()))),
        "skipped": ListOf(Object({"runtime": Text(), "file": Nullable(Text()), "reason": Text()})),
        "pictures": ListOf(_PICTURE),
        "gates_failed": ListOf(Object({"row": Text(), "name": Text()})),
    }
)


def load_report(path: str | Path) -> Report:
    """Read the JSON of ``egeunet-bench --json``.

    Raises:
        InputError: no such file, not JSON, not of egeunet-bench, of another
            schema_version, or with a value that a report cannot have.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        report = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not JSON ({error}); expected a report written by {TOOL} --json"
        ) from error
    return check_report(report, str(path))


def check_report(report: object, source: str = "report") -> Report:
    """Give the report back if it is one of this schema_version.

    Args:
        report: JSON values, as :func:`json.loads` gives them.
        source: what an error message calls it.

    Raises:
        InputError: it is not; the message names the first value that is wrong.
    """
    if not isinstance(report, dict) or "schema_version" not in report or "rows" not in report:
        raise InputError(f"{source}: not a report of {TOOL}; give the file that --json wrote")
    version = report["schema_version"]
    if version != SCHEMA_VERSION or isinstance(version, bool):
        older = isinstance(version, int) and version < SCHEMA_VERSION
        todo = f"measure again with {TOOL} --json" if older else "update egeunet-mobile"
        raise InputError(
            f"{source}: schema_version {version!r}, this {TOOL} reads {SCHEMA_VERSION}; {todo}"
        )
    if report.get("tool") != TOOL:
        raise InputError(f"{source}: tool is {report.get('tool')!r}, expected {TOOL!r}")
    problem = REPORT.problem(report, "") or _contradiction(report)
    if problem:
        raise InputError(f"{source}: {problem}; measure again with {TOOL} --json")
    return report


def _contradiction(report: Report) -> str | None:
    """The first statement of a well-shaped report that another of its values belies."""
    rows: list[Row] = report["rows"]
    ids = {row["id"] for row in rows}
    if len(ids) < len(rows):
        twice = next(row["id"] for i, row in enumerate(rows) if row["id"] in _ids(rows[:i]))
        return f"two rows have the id {twice!r}"
    failed = set()
    for index, row in enumerate(rows):
        where = f"rows[{index}]"
        if row["within_target"] != (row["bytes"] <= report["target_bytes"]):
            return f"{where}.within_target is {row['within_target']} at {row['bytes']} bytes"
        if row["ratio"] and row["ratio"]["baseline"] not in ids:
            return f"{where}.ratio.baseline is {row['ratio']['baseline']!r}, which is no row"
        for gate in row["gates"]:
            if gate["passed"] != _holds(gate):
                return f"{where}: gate {gate['name']} says passed: {gate['passed']}, but is not so"
            if not gate["passed"]:
                failed.add((row["id"], gate["name"]))
    if {(entry["row"], entry["name"]) for entry in report["gates_failed"]} != failed:
        return "gates_failed does not name the failed gates of the rows"
    for index, picture in enumerate(report["pictures"]):
        if picture["row"] not in ids:
            return f"pictures[{index}].row is {picture['row']!r}, which is no row"
        if not _is_png(picture["png_base64"]):
            return f"pictures[{index}].png_base64 is not a PNG in base64"
    return None


def _holds(gate: dict[str, Any]) -> bool:
    value, limit = gate["value"], gate["limit"]
    if value is None:  # what could not be computed passes no gate
        return False
    return bool(value >= limit if gate["kind"] == "min" else value <= limit)


def _ids(rows: list[Row]) -> set[str]:
    return {row["id"] for row in rows}


def _is_png(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True).startswith(PNG_SIGNATURE)
    except (binascii.Error, ValueError):
        return False


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
