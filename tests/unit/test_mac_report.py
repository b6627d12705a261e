"""The Mac script as far as Linux allows: coremltools' benchmarker on a stand-in for Core ML.

MLModelBenchmarker, MLModel's loading of a package and the JSON are real; what Apple's
runtime does (compile, predict, durations, plan) is played by our interpreter of the
saved program and by fixed durations.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.benchmarks.apple import MacOptions, mac_report, problem
from egeunet.benchmarks.labelled_images import LabelledImages, synthetic_images
from egeunet.benchmarks.report.schema import check_report
from egeunet.export.coreml import emit_coreml
from egeunet.export.coreml.interpret import interpret
from egeunet.export.coreml.package import Package
from egeunet.export.coreml.toolkit import coremltools
from egeunet.export.deploy import build_deploy_graph
from egeunet.export.exporter import report_path
from egeunet.export.provenance import tree_sha256
from egeunet.model import load_weights
from egeunet.model.errors import InputError

pytestmark = pytest.mark.xdist_group("coreml")
MILLISECOND = 1_000_000


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Random weights and their float32 package with what a report says of it, at 32 x 32."""
    folder = tmp_path_factory.mktemp("mac")
    weights = tiny.random_weights(folder / "w.safetensors", size=32)
    model, contract = load_weights(weights)
    emit_coreml(build_deploy_graph(model, contract), contract, folder / "m.mlpackage", "float32")
    package = folder / "m.mlpackage"
    facts = {"precision": "float32", "weight_bytes": 1, "source_weights": {}}
    report_path(package).write_text(json.dumps({**facts, "sha256": tree_sha256(package)}))
    return weights, package


@pytest.fixture(scope="session")
def images() -> LabelledImages:
    return synthetic_images(2)


class Loaded:
    """What MLModelAsyncWrapper is on a Mac: a loaded model with Core ML's own durations."""

    load_duration_in_nano_seconds = 84 * MILLISECOND

    def __init__(self, path: Path) -> None:
        self.package, self.count = Package(path), 0

    def make_state_if_needed(self) -> None:
        return None

    async def predict(self, inputs: dict[str, Any], state: Any = None) -> dict[str, Any]:
        self.count += 1
        return predicted(self.package, inputs)

    async def unload(self) -> None: ...

    @property
    def last_predict_duration_in_nano_seconds(self) -> int:
        return (100 if self.count == 1 else self.count) * MILLISECOND


def predicted(package: Package, inputs: dict[str, Any]) -> dict[str, Any]:
    """Core ML's answer for an image: exactly the inputs that it takes, nothing else."""
    assert set(inputs) == {package.input_name}
    image = inputs[package.input_name]
    assert image.mode == "RGB" and image.size == (32, 32)
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    return {package.output_name: interpret(package, pixels).numpy()}


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, files: tuple[Path, Path]) -> SimpleNamespace:
    """This machine as a Mac whose Neural Engine refuses packages."""
    coremltools()
    from coremltools.models import MLModel
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    seen = SimpleNamespace(units=[], fails=None)

    async def load(model: Any, device: Any) -> Loaded:
        seen.units.append(model.compute_unit.name)
        if model.compute_unit.name == "CPU_AND_NE":
            raise RuntimeError("Error in declaring network.\nno Neural Engine here")
        return Loaded(files[1])

    def predict(self: Any, inputs: dict[str, Any], state: Any = None) -> dict[str, Any]:
        if seen.fails:
            raise seen.fails
        return predicted(Package(files[1]), inputs)

    class MLNeuralEngineComputeDevice: ...

    class MLCPUComputeDevice: ...

    async def operations(self: Any, inputs: Any, iterations: int) -> list[Any]:
        if self.compute_units.name == "CPU_ONLY":
            raise ValueError("Compute plan needs macOS 14.4")
        devices = [MLNeuralEngineComputeDevice(), MLNeuralEngineComputeDevice()]
        usages = [SimpleNamespace(preferred_compute_device=each) for each in devices]
        usages.append(SimpleNamespace(preferred_compute_device=MLCPUComputeDevice()))
        return [SimpleNamespace(compute_device_usage=each) for each in [*usages, None]]

    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(MLModel, "predict", predict)
    monkeypatch.setattr(MLModelBenchmarker, "_create_loaded_model", staticmethod(load))
    monkeypatch.setattr(MLModelBenchmarker, "benchmark_operation_execution", operations)
    return seen


def measure(files: tuple[Path, Path], images: LabelledImages, **options: Any) -> Any:
    weights, package = files
    return mac_report([package], weights, images, MacOptions(**options), lambda line: None)


def test_the_report_of_a_mac(
    mac: SimpleNamespace, files: tuple[Path, Path], images: LabelledImages
) -> None:
    report = measure(files, images, units=("all", "cpu", "ane"), runs=5, warmup=2)
    check_report(json.loads(json.dumps(report, allow_nan=False)))
    assert set(mac.units) == {"ALL", "CPU_ONLY", "CPU_AND_NE"}
    everything, cpu = report["rows"]
    assert everything["id"] == "m.mlpackage|coreml-all|0"
    # The first inference took 100 ms; then come two to warm up and five that are timed.
    latency = everything["latency"]
    assert latency["samples_ms"] == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert (latency["load_ms"], latency["first_ms"], latency["median_ms"]) == (84.0, 100.0, 6.0)
    assert (latency["runs"], latency["warmup"], latency["min_ms"]) == (5, 2, 4.0)
    assert everything["accuracy"]["max_abs_diff"] < 1e-3
    assert everything["accuracy"]["mask_iou"] > 0.99
    assert everything["gates"] and all(gate["passed"] for gate in everything["gates"])
    assert everything["operators_by_device"] == {"cpu": 1, "ane": 2}
    assert cpu["operators_by_device"] is None
    assert "ran which operator is unknown" in cpu["note"] and "macOS 14.4" in cpu["note"]
    (skip,) = report["skipped"]
    assert skip["runtime"] == "coreml-ane"
    assert skip["reason"].endswith(
        "Core ML fails on CPU and Neural Engine (Error in declaring network.)"
    )
    assert report["data"]["synthetic"] and report["reference"]["file"] == "w.safetensors"


def test_nothing_measured_is_an_error(
    mac: SimpleNamespace, files: tuple[Path, Path], images: LabelledImages
) -> None:
    mac.fails = RuntimeError("Unable to load model\nmore")
    with pytest.raises(InputError, match=r"nothing was measured: .*fails on CPU \(Unable to load"):
        measure(files, images, units=("cpu",))


def test_wrong_results_fail_their_gates(
    mac: SimpleNamespace,
    files: tuple[Path, Path],
    images: LabelledImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from coremltools.models import MLModel

    broken = iter([np.nan, 1.0])

    def wrong(self: Any, inputs: dict[str, Any], state: Any = None) -> dict[str, Any]:
        factor = next(broken)
        answer = predicted(Package(files[1]), inputs)
        return {name: (1 - value) * factor for name, value in answer.items()}

    monkeypatch.setattr(MLModel, "predict", wrong)
    report = measure(files, images, units=("cpu",), runs=1, warmup=1)
    names = {gate["name"] for gate in report["gates_failed"]}
    # The package has no report beside it, so only the gates that hold for every file are asked.
    assert {"new_constant_masks", "non_finite"} <= names
    assert report["rows"][0]["accuracy"]["non_finite"] == 1
    check_report(json.loads(json.dumps(report, allow_nan=False)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"units": ("npu",)}, "units must be different ones of all, cpu, gpu, ane"),
        ({"units": ()}, "units must be"),
        ({"units": ("cpu", "cpu")}, "units must be different"),
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"warmup": 0}, "warmup must be at least 1"),
    ],
)
def test_bad_options(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MacOptions(**values)


def test_other_machines_and_files_are_refused(
    files: tuple[Path, Path],
    images: LabelledImages,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    line = "Core ML runs on a Mac only, this is Linux; see docs/phones.md"
    assert problem() == line
    with pytest.raises(InputError, match=line):
        measure(files, images)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert problem() is None
    (tmp_path / "empty.mlpackage").mkdir()
    for path, message in (
        (files[0], "expected a .mlpackage folder"),
        (tmp_path / "absent.mlpackage", "expected a .mlpackage folder"),
        (tmp_path / "empty.mlpackage", "not a Core ML package that can be read"),
    ):
        with pytest.raises(InputError, match=message):
            mac_report([path], files[0], images, MacOptions(), lambda line: None)
