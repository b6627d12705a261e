"""The count of one model as JSON-ready values and as text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from egeunet.benchmarks.arm64.cpus import Cpu
from egeunet.benchmarks.arm64.emulator import Run, run_model
from egeunet.benchmarks.arm64.kernel_profile import (
    OPERATOR_ENTRY,
    AddressMap,
    readable,
    rows_of,
    total_of,
)
from egeunet.export.provenance import sha256_of
from egeunet.model.errors import InputError

SCHEMA_VERSION = 1
#: Widest function name in a table; C++ names have no end.
_NAME_WIDTH = 90


def count_report(model: Path, folder: Path, cpu: Cpu, operators: bool = False) -> dict[str, Any]:
    """Count one inference and say where the instructions went.

    Args:
        model: .tflite or .onnx file.
        folder: made by :func:`arm64.installation.install`.
        operators: also per XNNPACK operator, in a second run with the same addresses.

    Raises:
        InputError: see :func:`run_model`; operators of a runtime without XNNPACK.
    """
    run = run_model(model, folder, cpu)
    addresses = _addresses(run, folder)
    last = run.intervals[-1]
    report = {
        "schema_version": SCHEMA_VERSION,
        "file": model.name,
        "bytes": model.stat().st_size,
        "sha256": sha256_of(model),
        "cpu": cpu.name,
        "threads": 1,
        "runtime": run.guest["runtime"],
        "instructions": last.instructions,
        "invocations": [interval.instructions for interval in run.intervals],
        "outputs": run.guest["outputs"],
        "outputs_sha256": run.guest["sha256"],
        "functions": [asdict(row) for row in rows_of(total_of(last.parts), addresses)],
    }
    if operators:
        report["operators"] = _operators(model, folder, cpu, run, addresses)
    _rename(report)
    return report


def summary(report: dict[str, Any]) -> str:
    """One line: millions of instructions, exactly how many, of what."""
    n = report["instructions"]
    return (
        f"{n / 1e6:.2f} M instructions ({n:,}) {report['file']}, {report['bytes']:,} bytes, "
        f"{report['cpu']}, 1 thread, {report['runtime']}"
    )


def functions_text(report: dict[str, Any], top: int) -> str:
    """Table of the functions with the greatest counts."""
    total = report["instructions"]
    lines = [f"{'instructions':>13}  {'share':>6}  function (file)"]
    for row in report["functions"][:top]:
        name = row["function"][:_NAME_WIDTH]
        count = row["instructions"]
        lines.append(f"{count:13,}  {count / total:6.1%}  {name} ({row['file']})")
    rest = report["functions"][top:]
    if rest:
        count = sum(row["instructions"] for row in rest)
        lines.append(f"{count:13,}  {count / total:6.1%}  {len(rest)} other functions")
    return "\n".join(lines)


def operators_text(report: dict[str, Any]) -> str:
    """Table of XNNPACK's operators in the order in which they run."""
    total = report["instructions"]
    lines = [f"{'operator':>8}  {'instructions':>13}  {'share':>6}  its greatest functions"]
    for row in report["operators"]:
        count = row["instructions"]
        names = ", ".join(
            f"{f['function'][:_NAME_WIDTH]} {f['instructions'] / count:.0%}"
            for f in row["functions"][:2]
        )
        lines.append(f"{row['index']:8}  {count:13,}  {count / total:6.1%}  {names}")
    return "\n".join(lines)


def _operators(
    model: Path, folder: Path, cpu: Cpu, first: Run, addresses: AddressMap
) -> list[dict[str, Any]]:
    entry = addresses.find(OPERATOR_ENTRY)
    if entry is None:
        raise InputError(f"{model}: {first.guest['runtime']} has no {OPERATOR_ENTRY} to cut at")
    run = run_model(model, folder, cpu, split=entry)
    last = run.intervals[-1]
    if last.instructions != first.intervals[-1].instructions:
        raise InputError(f"{model}: two runs differ; the counts are not repeatable here")
    return [
        {
            "index": index,
            "instructions": sum(part.values()),
            "functions": [asdict(row) for row in rows_of(part, addresses)],
        }
        for index, part in enumerate(last.parts)  # 0: what comes before the first operator
    ]


def _addresses(run: Run, folder: Path) -> AddressMap:
    return AddressMap(run.guest["maps"], folder / "guest" / "usr" / "lib" / "debug")


def _rename(report: dict[str, Any]) -> None:
    """C++ names in all tables made readable, in one go."""
    tables = [report["functions"], *(row["functions"] for row in report.get("operators", []))]
    rows = [row for table in tables for row in table]
    names = readable(sorted({row["function"] for row in rows}))
    for row in rows:
        row["function"] = names.get(row["function"], row["function"])
