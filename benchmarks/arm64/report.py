"""The count of one model as JSON-ready values and as text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from egeunet.benchmarks.arm64.cpus import Cpu
from egeunet.benchmarks.arm64.emulator import Run, count_model
from egeunet.benchmarks.arm64.kernel_profile import AddressMap, Row, readable, rows_of
from egeunet.benchmarks.arm64.operators import cut_at_operators, operator_table
from egeunet.export.provenance import sha256_of
from egeunet.model.errors import InputError

SCHEMA_VERSION = 2
#: Stands in every report, table and picture.
NOTE = "emulated: instructions, not time; caches, pipelines and clock are not modelled"
#: Widest function name in a table; C++ names have no end.
_NAME_WIDTH = 90


def count_report(
    model: Path, root: Path, cpu: Cpu, operators: bool = False, size: tuple[int, int] = (256, 256)
) -> dict[str, Any]:
    """Count one inference and say where the instructions went.

    Args:
        model: .tflite or .onnx file.
        root: made by :func:`arm64.installation.setup`.
        operators: also per operator, in a second run with the same addresses (.tflite only:
            ONNX Runtime is shipped without the names of its inner functions).
        size: height and width of the input, for a model that leaves them open.

    Returns:
        JSON-ready values; ``instructions`` of the last invocation, ``shares`` of its classes,
        ``kernels`` (symbol, file, instructions, shares) greatest first, ``operators`` (name,
        instructions, kernel, runs) in the order of the run, ``guest``: its inputs, outputs.

    Raises:
        InputError: see :func:`count_model`; two runs that differ.
    """
    run = count_model(model, root, cpu, size=size)
    addresses = _addresses(run, root)
    last = run.intervals[-1]
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "note": NOTE,
        "file": model.name,
        "bytes": model.stat().st_size,
        "sha256": sha256_of(model),
        "cpu": cpu.name,
        "threads": 1,
        "runtime": run.guest["runtime"],
        "instructions": last.instructions,
        "shares": last.mix.shares(),
        "invocations": [interval.instructions for interval in run.intervals],
        "results": run.guest["results"],
        "results_sha256": run.guest["sha256"],
        "guest": {key: run.guest.get(key) for key in ("inputs", "outputs", "metadata")},
        "kernels": [_kernel(row) for row in rows_of(last.blocks, addresses)],
        "operators": [],
        "operators_left_out": [],
        "operators_unnamed": 0,
    }
    if operators and model.suffix == ".tflite":
        report |= _operators(model, root, cpu, run, addresses)
    _rename(report)
    return report


def summary(report: dict[str, Any]) -> str:
    """Two lines: how many instructions of what; of which classes; and the note."""
    n = report["instructions"]
    shares = ", ".join(
        f"{name.replace('_', ' ')} {share:.1%}" for name, share in report["shares"].items()
    )
    return (
        f"{n / 1e6:.2f} M instructions ({n:,}) {report['file']}, {report['bytes']:,} bytes, "
        f"{report['cpu']}, 1 thread, {report['runtime']}\n  {shares} ({report['note']})"
    )


def kernels_text(report: dict[str, Any], top: int) -> str:
    """Table of the functions with the greatest counts."""
    total = report["instructions"]
    lines = [f"{'instructions':>13}  {'share':>6}  function (file)"]
    for row in report["kernels"][:top]:
        name = row["symbol"][:_NAME_WIDTH]
        lines.append(f"{_count_of(row, total)}  {name} ({row['file']})")
    rest = report["kernels"][top:]
    if rest:
        others = {"instructions": sum(row["instructions"] for row in rest)}
        lines.append(f"{_count_of(others, total)}  {len(rest)} other functions")
    return "\n".join(lines)


def operators_text(report: dict[str, Any]) -> str:
    """Table of the file's operators in the order in which they ran."""
    total = report["instructions"]
    if not report["operators"]:
        return f"no operators to tell apart in {report['runtime']}"
    lines = [f"{'instructions':>13}  {'share':>6}  {'operator':40}  its greatest function"]
    for row in report["operators"]:
        kernel = row["kernel"][:_NAME_WIDTH]
        lines.append(f"{_count_of(row, total)}  {row['name']:40}  {kernel}".rstrip())
    lines.append(f"{len(report['operators_left_out'])} operators are fused or do nothing here")
    return "\n".join(lines)


def _count_of(row: dict[str, Any], total: int) -> str:
    return f"{row['instructions']:13,}  {row['instructions'] / total:6.1%}"


def _kernel(row: Row) -> dict[str, Any]:
    place = {"symbol": row.function, "file": row.file}
    return {**place, "instructions": row.instructions, "shares": row.mix.shares()}


def _operators(
    model: Path, root: Path, cpu: Cpu, first: Run, addresses: AddressMap
) -> dict[str, Any]:
    cut = cut_at_operators(addresses)
    run = count_model(model, root, cpu, cut)
    last = run.intervals[-1]
    if last.instructions != first.intervals[-1].instructions:
        raise InputError(
            f"{model}: two runs differ ({first.intervals[-1].instructions:,} and "
            f"{last.instructions:,} instructions); counts do not repeat on this machine"
        )
    table = operator_table(last, run.guest["operators"], addresses, cut)
    return {
        "operators": [asdict(row) for row in table.rows],
        "operators_left_out": table.left_out,
        "operators_unnamed": table.unnamed,
    }


def _addresses(run: Run, root: Path) -> AddressMap:
    return AddressMap(run.guest["maps"], root / "guest" / "usr" / "lib" / "debug")


def _rename(report: dict[str, Any]) -> None:
    """C++ names in all tables made readable, in one go."""
    fields = [(row, "symbol") for row in report["kernels"]]
    fields += [(row, "kernel") for row in report["operators"]]
    names = readable(sorted({row[key] for row, key in fields}))
    for row, key in fields:
        row[key] = names.get(row[key], row[key])
