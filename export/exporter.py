"""The one function behind ``egeunet-export``: weights in, a checked file and its report out."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from egeunet.export.check import check_parity
from egeunet.export.graph import Graph
from egeunet.export.provenance import sha256_of
from egeunet.export.registry import Format, find_format, find_precision
from egeunet.export.report import describe_artifact
from egeunet.export.request import Artifact, ExportRequest, Source
from egeunet.model.atomic import explained, replacing, write_bytes
from egeunet.model.errors import GateError, InputError, needs_extra
from egeunet.model.packaged import shipped_weights


def export(
    format: str = "tflite",
    precision: str | None = None,
    *,
    weights: str | Path | None = None,
    out: str | Path = "build",
    io: str | None = None,
    size: int | None = None,
    optimize: str = "speed",
    calibration: str | Path | None = None,
    check: bool = True,
    metadata: str | None = None,
    batch: int = 1,
    dynamic: bool = False,
    recipe: str | Path | None = None,
    target_bytes: int | None = None,
    norms: str | None = None,
) -> Artifact:
    """Make one file, ``out/egeunet_PRECISION.SUFFIX``, and its report beside it.

    Args:
        format: a name in :func:`egeunet.export.registry.formats`.
        precision: one that the format has; None = its first.
        weights, out, io, size, optimize, calibration, check, metadata, batch, dynamic, recipe,
            target_bytes, norms: see :class:`ExportRequest`.

    Raises:
        InputError: a bad argument or input; nothing is written.
        GateError: the finished file differs from the reference by more than
            gates.toml allows; it is not kept. Or it is larger than ``target_bytes``; it is
            kept.
    """
    kind = find_format(format)
    request = ExportRequest(
        format,
        precision or kind.precisions[0],
        Path(weights) if weights is not None else None,
        Path(out),
        io,
        size,
        optimize,
        Path(calibration) if calibration is not None else None,
        check,
        metadata,
        batch,
        dynamic,
        Path(recipe) if recipe is not None else None,
        target_bytes,
        norms,
    )
    artifact = run_export(request)
    require_target([artifact], request.target_bytes)
    return artifact


def run_export(request: ExportRequest) -> Artifact:
    """:func:`export` for a request."""
    kind = find_format(request.format)
    if request.precision not in (*kind.precisions, *kind.recipes):
        find_precision(request.precision)  # an unknown name is the clearer error
        raise InputError(
            f"format {kind.name} has no precision {request.precision!r}; "
            f"it has {', '.join((*kind.precisions, *kind.recipes))}"
        )
    path = request.out / f"egeunet_{request.precision}{kind.suffix}"
    _refuse_unwritable(request.out)
    source = load_source(request)
    request.metadata_for(source.contract)  # refuses before the work
    prepared = find_precision(request.precision)(
        deploy_graph(kind, source, request), source, request
    )
    with replacing(path) as temporary:
        kind.write(prepared, source, request, temporary)
        report = describe_artifact(temporary, prepared, source, request)
        report["parity"] = _parity(temporary, kind, source, request)
        write_bytes(report_path(path), (json.dumps(report, indent=2) + "\n").encode())
    return Artifact(path, report)


def require_target(artifacts: Sequence[Artifact], target_bytes: int | None) -> None:
    """Refuse finished files that are larger than was asked for; None asks for nothing.

    Raises:
        GateError: one is larger; it says how close each came, and that it was kept.
    """
    if target_bytes is None:
        return
    sizes = {artifact.path: int(artifact.report["bytes"]) for artifact in artifacts}
    missed = [
        f"{path} has {size:,} bytes, {size - target_bytes:,} ({size / target_bytes - 1:.1%}) more"
        for path, size in sizes.items()
        if size > target_bytes
    ]
    if missed:
        raise GateError(
            f"target of {target_bytes:,} bytes missed: {'; '.join(missed)}; kept all the same"
        )


def report_path(path: Path) -> Path:
    """Where the report of an artefact lies: FILE.json beside FILE."""
    return path.with_name(path.name + ".json")


def load_source(request: ExportRequest) -> Source:
    """The weights of a request, with the contract at the request's size."""
    with needs_extra("torch"):
        from egeunet.model.weights import load_weights
    path = request.weights or shipped_weights()
    model, contract = load_weights(path)
    if request.size is not None:
        contract = replace(contract, height=request.size, width=request.size)
    if model.config.num_classes != 1:
        raise InputError(
            f"{path}: {model.config.num_classes} classes; the contract of an exported file "
            "is one lesion probability"
        )
    return Source(model, contract, path.name, sha256_of(path))


def deploy_graph(kind: Format, source: Source, request: ExportRequest) -> Graph:
    """The deploy form that a format is written from."""
    if request.dynamic:
        from egeunet.export.onnx.dynamic import build_dynamic_graph

        return build_dynamic_graph(source.model, source.contract)
    if kind.name in ("onnx", "ort"):
        from egeunet.export.onnx.form import build_onnx_graph

        # An .onnx file's constants are folded when it is loaded: the small form costs no time.
        # Not quantized ones, so that int8 has the form without operators on constants.
        stored = "speed" if request.integer else "size"
        optimize = stored if kind.name == "onnx" else request.optimize
        return build_onnx_graph(source.model, source.contract, optimize, request.batch)
    if kind.whole_norms:
        from egeunet.export.deploy import build_deploy_graph

        return build_deploy_graph(source.model, source.contract, request.optimize, request.batch)
    from egeunet.export.lean import build_lean_graph

    return build_lean_graph(source.model, source.contract, request.optimize)


def _parity(path: Path, kind: Format, source: Source, request: ExportRequest) -> dict[str, object]:
    if not request.check:
        return {"checked": False, "reason": "switched off"}
    return check_parity(path, kind, source, request.precision)


def _refuse_unwritable(folder: Path) -> None:
    """Say so before the work rather than after it."""
    probe = folder / ".egeunet-write-test"
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        if shutil.disk_usage(folder).free == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
