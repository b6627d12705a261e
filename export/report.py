"""What is written down about every exported file: FILE.json beside it."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from egeunet.export.explain import explain, explainable
from egeunet.export.provenance import environment, tree_sha256
from egeunet.export.registry import Prepared
from egeunet.export.request import ExportRequest, Source

SCHEMA_VERSION = 1
#: The size target where none is asked for: about 50 KB.
TARGET_BYTES = 51_200


def describe_artifact(
    path: Path, prepared: Prepared, source: Source, request: ExportRequest
) -> dict[str, Any]:
    """The report of a finished file (or package folder), without its parity."""
    contents = [file.read_bytes() for file in _files(path)]
    size = sum(map(len, contents))
    graph, target = prepared.graph, request.target_bytes or TARGET_BYTES
    floats = sum(
        graph.values[node.output].dtype == "float32" and node.op != "dequantize"
        for node in graph.nodes
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "file": path.name,
        "format": request.format,
        "precision": request.precision,
        "io": request.io_type,
        "optimize": request.optimize,
        "batch": None if request.dynamic else request.batch,
        "dynamic": request.dynamic,
        "metadata": request.metadata_for(source.contract),
        "bytes": size,
        "bytes_deflated": sum(len(zlib.compress(data, 9)) for data in contents),
        "target_bytes": target,
        "within_target": size <= target,
        "sha256": tree_sha256(path),
        "operators": len(graph.nodes),
        "ops": graph.operators(),
        "float_operators": floats,
        "bytes_by_kind": explain(path)["bytes_by_kind"] if explainable(path) else None,
        "weight_bytes": graph.weight_bytes(),
        "contract": source.contract.to_dict(),
        "source_weights": {"file": source.weights, "sha256": source.sha256},
        "details": prepared.details,
        "environment": environment(),
    }


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
