"""What egeunet-bench needs for its rows ``litert-arm64`` and ``onnxruntime-arm64``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egeunet.benchmarks.arm64.cpus import DEFAULT_CPU, cpu_named
from egeunet.benchmarks.arm64.installation import default_root
from egeunet.benchmarks.arm64.probability import emulated_probability
from egeunet.benchmarks.arm64.report import NOTE, count_report
from egeunet.export.runners.runner import Pixels
from egeunet.model.errors import InputError

#: Name of the runtime in reports -> suffix of the files that it runs.
ARM64_RUNTIMES = {"litert-arm64": ".tflite", "onnxruntime-arm64": ".onnx"}


def arm64_runtime_of(path: Path) -> str | None:
    """The runtime that runs a file of that suffix, None if none does."""
    return next((name for name, suffix in ARM64_RUNTIMES.items() if suffix == path.suffix), None)


def arm64_row_part(
    path: Path,
    images_uint8_nhwc: Pixels,
    *,
    cpu: str = DEFAULT_CPU,
    root: Path | None = None,
    runtime: str | None = None,
    operators: bool = True,
) -> dict[str, Any]:
    """Count a model on an emulated 64-bit Arm core and segment images there.

    Two or three starts of the emulated machine: the count, the count cut at operators
    (.tflite), and one for all images. An image takes seconds: a few dozen are enough.

    Args:
        path: .tflite or .onnx file.
        images_uint8_nhwc: uint8 (N, H, W, 3), N >= 1, at the contract's size.
        cpu: one of :data:`CPUS`.
        root: made by :func:`setup`; None: the default one.
        runtime: one of ARM64_RUNTIMES, None: by the file's suffix.
        operators: count per operator, too.

    Returns:
        ``runtime``, ``runtime_version``, ``threads`` (1), ``note``; ``instructions``: the
        report's entry of that name (cpu, total, shares, kernels, operators, JSON-ready);
        ``probability``: float32 (N, H, W, 1).

    Raises:
        InputError: unknown core or runtime, no set-up, a model that fails.
    """
    runtime = runtime or arm64_runtime_of(path)
    if runtime is None or ARM64_RUNTIMES.get(runtime) != path.suffix:
        known = ", ".join(f"{name} ({suffix})" for name, suffix in ARM64_RUNTIMES.items())
        raise InputError(f"{path}: {runtime or 'no arm64 runtime'} cannot run it; known: {known}")
    if images_uint8_nhwc.ndim != 4 or not len(images_uint8_nhwc):
        shape = images_uint8_nhwc.shape
        raise InputError(f"expected images (N, H, W, 3), N of at least 1, got shape {shape}")
    root = root or default_root()
    core = cpu_named(cpu)
    height, width = images_uint8_nhwc.shape[1:3]
    report = count_report(path, root, core, operators, (height, width))
    probability = emulated_probability(path, images_uint8_nhwc, report["guest"], root, core)
    instructions = {
        "cpu": core.name,
        "total": report["instructions"],
        "shares": report["shares"],
        "kernels": report["kernels"],
        "operators": report["operators"],
        "operators_left_out": report["operators_left_out"],
        "operators_unnamed": report["operators_unnamed"],
        "note": NOTE,
    }
    return {
        "runtime": runtime,
        "runtime_version": report["runtime"],
        "threads": 1,
        "note": NOTE,
        "instructions": instructions,
        "probability": probability,
    }
