"""The report of egeunet-bench for Core ML packages on this Mac."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.apple.core_ml import UNITS, CoreMLPackage, PackageOnUnit, Times
from egeunet.benchmarks.gates import verdicts
from egeunet.benchmarks.labelled_images import SYNTHETIC, LabelledImages
from egeunet.benchmarks.model_file import describe_file
from egeunet.benchmarks.parity import Parity
from egeunet.benchmarks.progress import say
from egeunet.benchmarks.report.schema import SCHEMA_VERSION, TOOL, Report, Row
from egeunet.benchmarks.rows import failed_gates, shown_path
from egeunet.benchmarks.runtimes import missing_package
from egeunet.export.provenance import environment, sha256_of
from egeunet.export.report import TARGET_BYTES
from egeunet.export.runners import Runner, open_runner
from egeunet.export.runners.runner import PACKAGE_SUFFIX
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class MacOptions:
    """How to measure on a Mac.

    Attributes:
        units: some of ``all``, ``cpu``, ``gpu``, ``ane`` (Neural Engine).
        runs, warmup: timed and untimed inferences.

    Raises:
        InputError: a value outside those sets.
    """

    units: tuple[str, ...] = tuple(UNITS)
    runs: int = 200
    warmup: int = 10

    def __post_init__(self) -> None:
        unknown = [unit for unit in self.units if unit not in UNITS]
        if unknown or not self.units or len(set(self.units)) < len(self.units):
            raise InputError(
                f"units must be different ones of {', '.join(UNITS)}, got {list(self.units)}"
            )
        for name in ("runs", "warmup"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")


def problem() -> str | None:
    """One line why Core ML cannot be timed here; None = it can. Imports nothing heavy."""
    if platform.system() != "Darwin":
        return f"Core ML runs on a Mac only, this is {platform.system()}; see docs/phones.md"
    return missing_package("coremltools", "coreml")


def mac_report(
    files: Sequence[Path],
    weights: Path,
    images: LabelledImages,
    options: MacOptions,
    progress: Callable[[str], None] = say,
) -> Report:
    """Measure packages; a row for each on each choice of compute units.

    Args:
        files: .mlpackage folders of one input size.
        weights: what they were made from, run by torch for the accuracy.
        images: for accuracy; the first is what is timed.
        progress: gets a line before every step.

    Returns:
        A report as egeunet-bench writes it; each row has ``operators_by_device`` besides.

    Raises:
        InputError: not on a Mac, no package, or none that Core ML runs on any unit.
    """
    why = problem()
    if why:
        raise InputError(why)
    start = time.monotonic()
    for file in files:
        if file.suffix != PACKAGE_SUFFIX or not file.is_dir():
            raise InputError(f"{file}: expected a {PACKAGE_SUFFIX} folder")
    reference = open_runner(weights)
    rows: list[Row] = []
    skipped: list[dict[str, Any]] = []
    for file in files:
        package = CoreMLPackage(file)
        for unit in options.units:
            progress(f"{file.name}: {UNITS[unit][1]}")
            try:
                rows.append(_row(package, unit, reference, images, options))
            except InputError as error:
                entry = {"runtime": f"coreml-{unit}", "file": file.name, "reason": str(error)}
                skipped.append(entry)
    if not rows:
        raise InputError(f"nothing was measured: {skipped[0]['reason']}")
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": TOOL,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": False,
        "duration_s": time.monotonic() - start,
        "data": {
            "name": images.name,
            "split": images.split,
            "images": len(images.items),
            "synthetic": images.name == SYNTHETIC,
        },
        "target_bytes": TARGET_BYTES,
        "environment": {**environment(), "macos": platform.mac_ver()[0]},
        "reference": {"file": weights.name, "sha256": sha256_of(weights)},
        "rows": rows,
        "pre_post": {},
        "skipped": skipped,
        "pictures": [],
        "gates_failed": failed_gates(rows),
    }


def _row(
    package: CoreMLPackage,
    unit: str,
    reference: Runner,
    images: LabelledImages,
    options: MacOptions,
) -> Row:
    file, loaded = package.path, package.on(unit)
    parity = _parity(loaded, package, reference, images)
    first = next(images.load(package.contract)).image[None]  # (1, H, W, 3)
    latency = _latency(loaded.times(first, options.runs, options.warmup), options.warmup)
    facts, note = describe_file(file), UNITS[unit][1]
    devices: dict[str, int] | None = None
    try:
        devices = loaded.devices(first)
    except InputError as error:
        note += f"; which device ran which operator is unknown: {error}"
    accuracy = parity.to_dict()
    return {
        "id": f"{file.name}|coreml-{unit}|0",
        "file": file.name,
        "path": shown_path(file),
        **facts,
        "runtime": f"coreml-{unit}",
        "peer": False,
        "threads": 0,  # Core ML chooses
        "note": note,
        "accuracy": accuracy,
        "latency": latency,
        "ratio": None,
        "instructions": None,
        "gates": [each.to_dict() for each in verdicts(facts["precision"], accuracy)],
        "where": None,
        "operators_by_device": devices,
    }


def _parity(
    loaded: PackageOnUnit, package: CoreMLPackage, reference: Runner, images: LabelledImages
) -> Parity:
    parity = Parity(package.contract.threshold)
    for id, image, mask in images.load(package.contract):
        expected = reference(image[None])[0, ..., 0]  # (1, H, W, 1) -> (H, W)
        try:
            parity.add(id, mask, expected, loaded.probability(image[None])[0, ..., 0])
        except InputError as error:  # NaN on one image is a failed gate, not the end
            parity.add(id, mask, expected, None, str(error))
    if len(parity.reasons) == len(parity.ids):
        raise InputError(parity.reasons[0])
    return parity


def _latency(times: Times, warmup: int) -> dict[str, Any]:
    p50, p90, p95, p99 = (float(p) for p in np.percentile(times.samples_ms, (50, 90, 95, 99)))
    return {
        "median_ms": p50,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
        "min_ms": min(times.samples_ms),
        "samples_ms": [round(sample, 5) for sample in times.samples_ms],
        "runs": len(times.samples_ms),
        "warmup": warmup,
        "load_ms": times.load_ms,
        "first_ms": times.first_ms,
        "peak_memory_bytes": None,
        "flags": [],
    }
