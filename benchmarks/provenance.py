"""What a report says about the model file that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egeunet.export.provenance import tree_bytes, tree_sha256
from egeunet.export.runners import Runner


def describe_model(path: str | Path, runner: Runner) -> dict[str, Any]:
    """File name (never the whole path), bytes, sha256, runtime, precision and contract."""
    path = Path(path)
    return {
        "file": path.name,
        "bytes": tree_bytes(path),
        "sha256": tree_sha256(path),
        "runtime": runner.name,
        "precision": runner.precision_note,
        "contract": runner.contract.to_dict(),
    }
