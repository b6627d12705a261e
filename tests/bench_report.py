"""A report of egeunet-bench as a real run writes it, with names that want to do harm.

The figures are made up (generator with a fixed seed); only their shape is real.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from egeunet.benchmarks.report import (
    Evidence,
    difference_picture,
    picture_entry,
    worst_picture,
)
from egeunet.model.data.synthetic import synthetic_sample

TARGET = 51_200
ALERT = "<script>alert(1)</script>.tflite"
#: File, runtime, threads, bytes, IoU, median ms (None: not timed), millions of instructions.
_ROWS: tuple[tuple[str, str, int, int, float, float | None, float | None], ...] = (
    ("egeunet_isic2017.safetensors", "torch", 1, 239_800, 0.77013, 26.9, None),
    ("egeunet_isic2017.safetensors", "torch-compile", 1, 239_800, 0.77013, 14.2, None),
    ("egeunet_int8.tflite", "litert-xnnpack", 1, 49_872, 0.76821, 3.31, None),
    ("egeunet_int8.tflite", "litert-xnnpack", 2, 49_872, 0.76821, 2.14, None),
    ("egeunet_int8.tflite", "litert-arm64", 1, 49_872, 0.76821, None, 44.6),
    ("egeunet_float16.tflite", "litert-xnnpack", 1, 194_432, 0.77002, 5.84, None),
    ("egeunet_float32.tflite", "litert-xnnpack", 1, 324_240, 0.77013, 5.61, None),
    ("egeunet_float32.tflite", "litert-arm64", 1, 324_240, 0.77013, None, 69.2),
    ("egeunet_float32.onnx", "onnxruntime", 1, 264_590, 0.77013, 8.9, None),
    ("egeunet_float16.mlpackage", "coreml-interpreter", 1, 216_715, 0.76998, None, None),
    ("egeunet_peer.tflite", "litert-torch", 1, 543_704, 0.77013, 9.6, None),
    ("egeunet.ncnn.bin", "ncnn", 1, 266_376, 0.76999, 10.6, None),
    ("egeunet.xml", "openvino", 1, 298_198, 0.77013, 18.3, None),
    (ALERT, "litert-builtin", 1, 61_004, 0.31240, 12.7, None),
    ('"><img src=x onerror=alert(2)>|`&amp;\udcff\u202egpj.tflite', "android-cpu", 4,
     49_872, 0.76821, 7.4, None),
)  # fmt: skip
_PEERS = ("litert-torch", "ncnn", "openvino")
_NOTES = {
    "litert-arm64": "emulated, instructions not time",
    "coreml-interpreter": "interpreter, not Core ML",
}
_KERNELS = (
    "xnn_qs8_qc8w_igemm_minmax_fp32_ukernel_4x16c4__neondot",
    "xnn_f32_dwconv_minmax_ukernel_9p8c__neon",
    "std::__1::vector<float, std::__1::allocator<float> >::push_back[abi:v15006](float const&)",
    "memcpy",
    *(f"xnn_kernel_number_{index}" for index in range(20)),
)


def report(*, synthetic: bool = True, quick: bool = False) -> dict[str, Any]:
    """The whole report: 15 rows, 4 pictures, two failed gates, two skipped runtimes."""
    generator = np.random.default_rng(7)
    rows = [_row(generator, *values) for values in _ROWS]
    base = rows[0]["id"]
    for row in rows:
        if row["latency"] and not row["runtime"].startswith("android"):
            ratio = row["latency"]["median_ms"] / rows[0]["latency"]["median_ms"]
            row["ratio"] = {
                "baseline": base, "median": ratio, "low": 0.97 * ratio, "high": 1.03 * ratio
            }  # fmt: skip
    rows[13]["where"] = {
        "tensor": "encoder/3/gelu", "layer": "encoder3", "max_abs_diff": 0.81, "compared": 212,
        "table": [
            {"tensor": f"tensor {i}", "layer": "<b>", "max_abs_diff": 0.01 * i, "ok": i < 3}
            for i in range(8)
        ],
    }  # fmt: skip
    failed = [
        {"row": row["id"], "name": gate["name"]}
        for row in rows
        for gate in row["gates"]
        if not gate["passed"]
    ]
    return {
        "schema_version": 2,
        "tool": "egeunet-bench",
        "created": "2026-11-23T17:44:09+00:00",
        "quick": quick,
        "duration_s": 171.4,
        "data": {
            "name": "synthetic" if synthetic else "isic2017",
            "split": "all" if synthetic else "test",
            "images": 32 if synthetic else 650, "synthetic": synthetic,
        },
        "target_bytes": TARGET,
        "environment": {
            "python": "3.11.2", "platform": "Linux-6.1-x86_64-with-glibc2.36", "cores": 2,
            "packages": {"torch": "2.13.0", "numpy": "2.4.6", "ai-edge-litert": "2.3.0"},
        },
        "reference": {"file": rows[0]["file"], "sha256": rows[0]["sha256"]},
        "rows": rows,
        "pre_post": {"preprocess_ms": {"median_ms": 1.91}, "postprocess_ms": {"median_ms": 0.44}},
        "skipped": [
            {"runtime": "coreml", "file": None, "reason": "Core ML runs on macOS only"},
            {"runtime": "mnn", "file": ALERT, "reason": "MNN is not installed: <i>pip</i>"},
        ],
        "pictures": _pictures(rows[13]["id"], rows[2]["id"]),
        "gates_failed": failed,
    }  # fmt: skip


def _row(
    generator: np.random.Generator,
    file: str,
    runtime: str,
    threads: int,
    size: int,
    iou: float,
    median: float | None,
    instructions: float | None,
) -> dict[str, Any]:
    reference = file.endswith(".safetensors")
    int8 = "int8" in file
    drop = 100 * (0.77013 - iou)
    mask_iou = 1.0 if reference else 0.41 if drop > 10 else 0.9671 if drop > 0.1 else 0.99998
    return {
        "id": f"{file}|{runtime}|{threads}", "file": file, "path": f"build/{file}",
        "format": file.rpartition(".")[2], "precision": "int8" if int8 else "float32",
        "sha256": hashlib.sha256(file.encode("utf-8", "replace")).hexdigest(),
        "runtime": runtime, "peer": runtime in _PEERS, "threads": threads,
        "note": _NOTES.get(runtime), "bytes": size, "bytes_deflated": int(0.86 * size),
        "weight_bytes": None if runtime in _PEERS else int(0.7 * size),
        "within_target": size <= TARGET,
        "accuracy": {
            "iou": iou, "dice": 2 * iou / (1 + iou), "mean_jaccard": iou - 0.01,
            "thresholded_jaccard": iou - 0.05, "sensitivity": 0.86, "specificity": 0.97,
            "accuracy": 0.95, "iou_drop_points": drop, "dice_drop_points": 0.6 * drop,
            "mask_agreement": 1 - (1 - mask_iou) / 4, "mask_iou": mask_iou,
            "max_abs_diff": 0.0 if reference else 0.33 if int8 else 2.7e-4,
            "mean_abs_diff": 1e-6, "constant_masks": 0, "new_constant_masks": 0,
            "non_finite": 0,
            "worst": [] if reference else [
                {"image": f"ISIC_00{12 + i}<br>", "iou": 0.3 + 0.1 * i, "reference_iou": 0.5,
                 "mask_iou": 0.7} for i in range(3)
            ],
        },
        "latency": _latency(generator, median, runtime), "ratio": None,
        "instructions": _instructions(generator, instructions),
        "gates": [] if reference else [
            _gate("mask_iou", mask_iou, 0.9 if int8 else 0.98, "min", "Borders move by a pixel."),
            _gate("max_abs_diff", 0.33 if int8 else 2.7e-4, 0.5, "max", "Far from what breaks."),
            _gate("iou_drop_points", drop, 1.0, "max", "A point is what users would notice."),
            _gate("new_constant_masks", 0, 0, "max", "No mask may collapse."),
        ],
        "where": None,
    }  # fmt: skip


def _latency(
    generator: np.random.Generator, median: float | None, runtime: str
) -> dict[str, Any] | None:
    if median is None:
        return None
    phone = runtime.startswith("android")  # benchmark_model prints no single times
    times = median * (0.97 + generator.gamma(1.2, 0.03, 400))
    times[::97] *= 2.2
    p = {
        name: float(np.percentile(times, q)) for name, q in (("p90", 90), ("p95", 95), ("p99", 99))
    }
    return {
        "median_ms": float(np.median(times)), "p90_ms": None if phone else p["p90"],
        "p95_ms": None if phone else p["p95"], "p99_ms": None if phone else p["p99"],
        "min_ms": float(times.min()), "samples_ms": [] if phone else times.round(4).tolist(),
        "runs": 400, "warmup": 10, "load_ms": 12.5, "first_ms": 2 * median,
        "peak_memory_bytes": None if phone else 84_000_000,
        "flags": ["throttled", "other load"] if runtime == "openvino" else [],
    }  # fmt: skip


def _instructions(generator: np.random.Generator, total: float | None) -> dict[str, Any] | None:
    if total is None:
        return None
    parts = generator.dirichlet(np.linspace(4, 0.3, len(_KERNELS))) * total * 1e6
    operators = generator.dirichlet(np.full(180, 0.4)) * total * 1e6
    return {
        "cpu": "cortex-a76", "total": int(parts.astype(int).sum()),
        "shares": {"dot product": 0.21, "SIMD": 0.48, "load/store": 0.27},
        "kernels": [
            {"symbol": name, "instructions": int(part)}
            for name, part in zip(_KERNELS, parts, strict=True)
        ],
        "operators": [
            {"name": f"{['CONV_2D', 'ADD', 'GELU'][i % 3]} {i}", "instructions": int(part)}
            for i, part in enumerate(operators)
        ],
    }  # fmt: skip


def _gate(name: str, value: float, limit: float, kind: str, reason: str) -> dict[str, Any]:
    passed = value >= limit if kind == "min" else value <= limit
    return {
        "name": name, "value": value, "limit": limit, "kind": kind, "passed": passed,
        "reason": reason,
    }  # fmt: skip


def _pictures(broken: str, good: str) -> list[dict[str, str]]:
    found = []
    for index, (row, shift) in enumerate(((broken, 14), (good, 3))):
        evidence = evidence_of(index, shift)
        name = f"ISIC_000{index}<svg onload=alert(3)>"
        found.append(picture_entry("worst", name, row, worst_picture(evidence)))
        found.append(picture_entry("difference", name, row, difference_picture(evidence)))
    return found


def evidence_of(index: int, shift: int, size: int = 256) -> Evidence:
    """A synthetic picture whose candidate is the reference moved by ``shift`` pixels."""
    image, mask = synthetic_sample(index, size)
    soft = mask.astype(np.float32)
    for axis in (0, 1):  # a border as wide as a network's
        soft = sum(np.roll(soft, step, axis) for step in range(-4, 5)) / 9  # type: ignore[assignment]
    return Evidence(image, mask, soft, np.roll(soft, shift, 1))


def put(report: Any, path: str, value: object) -> None:
    """Set a value by its path, for example ``rows.0.bytes``."""
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        report = report[part]
    report[last] = value
