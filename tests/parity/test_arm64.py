"""The real arm64 builds of the runtimes, run under QEMU: exact counts, and x86's masks.

The arm64 system is taken from the user's cache, or from EGEUNET_ARM64_ROOT, and made there
once (75 MB) where this machine can. With EGEUNET_ARM64_REQUIRED=1, as on a build server,
what cannot be made is a failure and the emulator itself is installed; otherwise a skip.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.benchmarks.arm64 import arm64_row_part, default_root, problem, setup
from egeunet.benchmarks.arm64.cpus import cpu_named
from egeunet.benchmarks.arm64.host import missing_tools
from egeunet.benchmarks.arm64.operators import BETWEEN
from egeunet.benchmarks.arm64.report import NOTE, count_report
from egeunet.benchmarks.labelled_images import synthetic_images
from egeunet.export import export
from egeunet.export.runners import open_runner
from egeunet.model.errors import InputError

pytestmark = [pytest.mark.xdist_group("arm64"), pytest.mark.slow]


@pytest.fixture(scope="session")
def root() -> Path:
    """The arm64 system, made if this machine can make it."""
    folder = Path(os.environ.get("EGEUNET_ARM64_ROOT") or default_root())
    required = os.environ.get("EGEUNET_ARM64_REQUIRED") == "1"
    if problem(folder) is None:
        return folder
    tools: tuple[str, ...] = ("apt-get", "dpkg-deb")
    if os.geteuid():  # root installs the others
        tools = ("qemu-aarch64", "cc", *tools)
    if not required and (missing := missing_tools(tools)):
        pytest.skip(f"SKIPPED LOUDLY: {missing[0]} is absent, so no arm64 build is run")
    try:
        return setup(folder)
    except InputError as error:
        if required:
            raise
        pytest.skip(f"SKIPPED LOUDLY: no arm64 build is run: {error}")


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Three pictures that use every value of a pixel."""
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def _model(folder: Path, suffix: str, **options: Any) -> Path:
    path = folder / f"tiny{suffix}"
    make = tiny.tflite_bytes if suffix == ".tflite" else tiny.onnx_bytes
    path.write_bytes(make(**options))
    return path


def test_the_shipped_int8_file(root: Path, tmp_path: Path) -> None:
    path = export(format="tflite", precision="int8", out=tmp_path).path
    pictures = [load(256, 256)[0] for _, load in synthetic_images(2).items]
    part = arm64_row_part(path, np.stack(pictures), root=root)
    x86 = open_runner(path)(np.stack(pictures))
    # Its integer operators are bit-identical; its float ones round as the core does.
    assert ((part["probability"] >= 0.5) == (x86 >= 0.5)).mean() > 0.998
    counted = part["instructions"]
    for table in ("kernels", "operators"):
        assert sum(row["instructions"] for row in counted[table]) == counted["total"], table
    assert sum(counted["shares"].values()) == pytest.approx(1)
    assert counted["operators_unnamed"] == 0
    names = {row["name"] for row in counted["operators"]} - {BETWEEN}
    assert len(names) > 20 and not names & set(counted["operators_left_out"])
    assert part["runtime"] == "litert-arm64" and part["note"] == counted["note"] == NOTE
    # Only the newer core has dot products; the older one pays for it.
    old = count_report(path, root, cpu_named("cortex-a53"))
    assert counted["shares"]["dot_product"] > 0.05
    assert old["shares"]["dot_product"] == 0
    assert old["instructions"] > 1.2 * counted["total"]


def test_two_counts_are_equal(root: Path, tmp_path: Path) -> None:
    path = _model(tmp_path, ".tflite")
    first, second = (count_report(path, root, cpu_named("cortex-a76")) for _ in range(2))
    assert first["instructions"] == second["instructions"] > 1000
    assert first["kernels"] == second["kernels"]
    assert first["invocations"][1] == first["invocations"][2]


def test_litert_gives_what_the_model_is(root: Path, images: np.ndarray, tmp_path: Path) -> None:
    path = _model(tmp_path, ".tflite", io="uint8")
    part = arm64_row_part(path, images, root=root, operators=False)
    np.testing.assert_allclose(part["probability"], open_runner(path)(images), atol=1e-6)


@pytest.mark.parametrize("batch", [2, "N"])
def test_onnx_files_of_any_batch(
    root: Path, images: np.ndarray, tmp_path: Path, batch: int | str
) -> None:
    path = _model(tmp_path, ".onnx", batch=batch)
    part = arm64_row_part(path, images, root=root)
    np.testing.assert_allclose(part["probability"], open_runner(path)(images), atol=1e-6)
    assert part["runtime_version"].startswith("onnxruntime ")
    assert part["instructions"]["operators"] == [] and part["instructions"]["total"] > 1000


def test_a_damaged_file_is_one_line(root: Path, images: np.ndarray, tmp_path: Path) -> None:
    path = _model(tmp_path, ".tflite")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"tiny\.tflite: the emulated runtime failed"):
        arm64_row_part(path, images, root=root)
