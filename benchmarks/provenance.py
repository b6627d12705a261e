"""What a report says about the model file that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egeunet.export.provenance import sha256_of
from egeunet.export.runners import Runner


def describe_model(path: str | Path, runner: Runner) -> dict[str, Any]:
    """File name (never the whole path), bytes, sha256, runtime, precision and contract."""
    path = Path(path)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "runtime": runner.name,
        "precision": runner.precision_note,
        "contract": runner.contract.to_dict(),
    }
