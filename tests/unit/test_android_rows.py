"""Whole measurements on the stand-in for a phone: what is reported, what goes wrong, what stays."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adb_stand_in as stand_in
import tiny_models as tiny
from egeunet.benchmarks.android import AndroidOptions, android_rows, problem, remote_folder
from egeunet.benchmarks.report.schema import SCHEMA_VERSION, TOOL, check_report
from egeunet.export.report import TARGET_BYTES
from egeunet.model import ModelContract
from egeunet.model.errors import InputError

pytestmark = pytest.mark.xdist_group("android")


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    one = stand_in.Phone(tmp_path / "phone")
    monkeypatch.setenv("PATH", f"{one.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    # The lock of a phone: other tests have a SERIAL1 of their own.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return one


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    path.write_bytes(tiny.tflite_bytes(ModelContract(32, 32).to_dict(), io="uint8"))
    return path


def measure(phone: Any, file: Path, **options: Any) -> tuple[list[Any], list[Any]]:
    images, skipped = options.pop("images", None), []
    options = {"benchmark_model": phone.tool, "delegates": ("cpu",), "threads": (1,)} | options
    rows = android_rows([file], images, AndroidOptions(**options), lambda line: None, skipped)
    return rows, skipped


def failure(phone: Any, file: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        measure(phone, file, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_of_a_phone(phone: Any, model: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    phone.set(thermal=2)
    rows, skipped = measure(
        phone, model, images=(["a", "b"], pixels), delegates=("cpu", "gpu", "nnapi"),
        threads=(1, 2), runs=40, warmup=4,
    )  # fmt: skip
    assert [row["id"] for row in rows] == [
        "tiny.tflite|android-cpu|1", "tiny.tflite|android-cpu|2", "tiny.tflite|android-gpu|1",
    ]  # fmt: skip
    assert [entry["runtime"] for entry in skipped] == ["android-nnapi"]
    assert "declined the graph; the CPU ran it" in skipped[0]["reason"]
    first = rows[0]
    assert first["note"] == "Google Pixel 8, Android 16, arm64-v8a, CPU (XNNPACK)"
    assert first["device"]["chip"] == "Tensor G3" and "serial" not in str(first).lower()
    latency = first["latency"]
    assert (latency["average_ms"], latency["deviation_ms"]) == pytest.approx((7.65432, 0.211))
    assert (latency["median_ms"], latency["p95_ms"], latency["runs"]) == (7.601, 8.82, 40)
    assert latency["load_ms"] == 4.452 and latency["memory_bytes"] == int(14.25 * 1024**2)
    assert latency["flags"] == ["throttled"]
    assert first["thermal"]["before"] == {
        "status": 2, "status_name": "moderate", "celsius": {"cpu": 61.5, "skin": 34.351},
    }  # fmt: skip
    assert first["bytes"] == model.stat().st_size and first["precision"] == "int8"
    # The stand-in runs the pushed file on the pushed pixels.
    for row in rows:
        assert row["device_parity"]["identical_masks"] == 2
        assert [each.shape for each in row["probabilities"]] == [(32, 32), (32, 32)]
    want = np.rint(tiny.expected(pixels, ModelContract(32, 32))[..., 0] * 255) / 255
    np.testing.assert_allclose(first["probabilities"], want, atol=1 / 255 + 1e-6)
    assert np.ptp(first["probabilities"]) > 0.5
    timed = [call for call in phone.calls() if "--num_runs=40" in call]
    assert [call[1:3] for call in timed[:2]] == [
        ["--use_xnnpack=true", "--num_threads=1"], ["--use_xnnpack=true", "--num_threads=2"],
    ]  # fmt: skip
    assert phone.left() == []
    for row in rows:
        del row["probabilities"]
    check_report(as_report(rows, skipped))


def as_report(rows: list[Any], skipped: list[Any]) -> dict[str, Any]:
    """Rows and skipped ones in a report that says nothing else, through JSON."""
    report = {
        "schema_version": SCHEMA_VERSION, "tool": TOOL, "created": "2025-01-01T00:00:00+00:00",
        "quick": False, "duration_s": 1.0,
        "data": {"name": "none", "split": "all", "images": 0, "synthetic": False},
        "target_bytes": TARGET_BYTES, "environment": {}, "reference": {"file": "", "sha256": ""},
        "rows": rows, "pre_post": {}, "skipped": skipped, "pictures": [], "gates_failed": [],
    }  # fmt: skip
    return dict(json.loads(json.dumps(report, allow_nan=False)))


@pytest.mark.parametrize("old", [False, True], ids=["shell_v2", "before Android 7"])
@pytest.mark.parametrize("version", ["2018", "2021", "compiled"])
def test_older_and_newer_tools_and_phones(phone: Any, model: Path, version: str, old: bool) -> None:
    phone.set(version=version, old=old, thermal=None)
    ((row,), skipped) = measure(phone, model)
    assert row["latency"]["average_ms"] == pytest.approx(7.65, abs=0.005)
    assert row["thermal"] == {"before": None, "after": None} and not skipped
    assert row["latency"]["flags"] == (["threads unconfirmed"] if version == "compiled" else [])
    assert phone.left() == []


def test_a_float_model_on_the_gpu_differs_and_says_how_much(phone: Any, tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    path.write_bytes(tiny.tflite_bytes(ModelContract(32, 32).to_dict()))
    pixels = np.random.default_rng(2).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    phone.set(gpu="part")
    (row,), _ = measure(phone, path, images=(["a"], pixels), delegates=("gpu",))
    assert row["note"].endswith("GPU delegate, which took 2 of 3 operators")
    assert row["delegate"] == {"name": "gpu", "share": "part", "nodes": [2, 3]}
    assert 0 < row["device_parity"]["max_abs_diff"] < 1e-3
    assert row["device_parity"]["non_finite"] == 0
    # Half precision that overflows on one of the images.
    phone.set(faults={"nan": "1.raw"})
    pixels = np.repeat(pixels, 2, axis=0)
    (row,), _ = measure(phone, path, images=(["a", "b"], pixels), delegates=("gpu",))
    assert row["device_parity"]["non_finite"] == 1
    assert "the model gives NaN" in row["probabilities"][1]
    assert row["probabilities"][0].shape == (32, 32)


def test_without_the_file_flags_there_are_no_masks(phone: Any, model: Path) -> None:
    phone.set(unknown=["output_filepath"])
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    (row,), _ = measure(phone, model, images=(["a"], pixels))
    assert row["note"].endswith("masks not compared: this benchmark_model does not know "
                                "--output_filepath")  # fmt: skip
    assert row["device_parity"] is None and row["probabilities"] is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"gpu": "unsupported"}, "the phone has no GPU delegate"),
        ({"gpu": "fails"}, "GPU delegate: benchmark_model failed (Failed to apply GPU delegate.)"),
        ({"unknown": ["use_gpu"]}, "does not know --use_gpu"),
        ({"faults": {"gpu": {"signal": signal.SIGSEGV}}}, "crashed (segmentation fault)"),
        ({"version": "compiled"}, "does not say that GPU delegate took the graph"),
    ],
)
def test_an_accelerator_that_did_not_run_is_skipped(
    phone: Any, model: Path, state: dict[str, Any], reason: str
) -> None:
    phone.set(**state)
    rows, (entry,) = measure(phone, model, delegates=("gpu",))
    assert rows == []
    assert entry["runtime"] == "android-gpu" and entry["file"] == "tiny.tflite"
    assert reason in entry["reason"]
    assert phone.left() == []


@pytest.mark.parametrize(
    ("devices", "serial", "message"),
    [
        ({}, None, "no Android phone is connected: plug one in"),
        ({"A1": "unauthorized"}, None, "phone A1 has not allowed this computer to debug: unlock"),
        ({"A1": "authorizing"}, None, "phone A1 has not allowed this computer to debug: unlock"),
        ({"A1": "offline"}, None, "phone A1 is offline: unlock it"),
        ({"A1": "no permissions (missing udev rules?)"}, None, "may not open the USB port"),
        ({"A1": "recovery"}, None, "phone A1 is in state 'recovery'"),
        ({"A1": "device", "B2": "device"}, None,
         "2 phones are connected: A1 (device), B2 (device); choose by --serial"),
        ({"A1": "device"}, "C3", "no phone C3 is connected; there is A1 (device)"),
        ({"A1": "device", "B2": "offline"}, "B2", "phone B2 is offline"),
    ],
)  # fmt: skip
def test_no_phone_to_measure(
    phone: Any, model: Path, devices: dict[str, str], serial: str | None, message: str
) -> None:
    phone.set(devices=devices)
    assert message in failure(phone, model, serial=serial)
    assert phone.calls() == [] and phone.left() == []


def test_the_one_that_is_ready_is_taken(phone: Any, model: Path) -> None:
    phone.set(devices={"A1": "offline", "B2": "device"})
    rows, _ = measure(phone, model)
    assert len(rows) == 1


def test_a_serial_in_the_environment(
    phone: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone.set(devices={"A1": "device", "B2": "device"})
    monkeypatch.setenv("ANDROID_SERIAL", "B2")
    assert len(measure(phone, model)[0]) == 1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"capacity": 50}, "storage of phone SERIAL1 is full: free some space on it (while "
                           "copying benchmark_model to the phone)"),
        ({"capacity": 300}, "is full: free some space on it (while copying tiny.tflite"),
        ({"faults": {"xnnpack": {"signal": signal.SIGKILL}}},
         "benchmark_model killed while timing tiny.tflite, CPU (XNNPACK), 1 thread(s)"),
        ({"faults": {"xnnpack": {"prints": "Failed to load model model.tflite", "code": 1}}},
         "benchmark_model failed (Failed to load model model.tflite) while timing"),
        ({"faults": {"xnnpack": {"prints": "INFO: all is well"}}},
         "printed no timing of a version known here (1 lines, the last: 'all is well')"),
        ({"faults": {"read_only": True}}, "refuses to write there (while making a folder"),
        ({"no_server": True}, "adb's server does not start"),
        ({"properties": {}}, "does not say what processor it has"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line_and_nothing_stays(
    phone: Any, model: Path, state: dict[str, Any], message: str
) -> None:
    phone.set(**state)
    assert message in failure(phone, model)
    assert phone.left() == []


@pytest.mark.parametrize("code", [0, 255])
def test_a_cable_that_slips_in_mid_run(
    phone: Any, model: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "_TIDY_SECONDS", 1)
    phone.set(faults={"disconnect": code})
    message = failure(phone, model)
    assert message.startswith("phone SERIAL1 broke off while timing tiny.tflite")
    assert "/data/local/tmp/egeunet-bench is left on the phone" in message
    assert "adb -s SERIAL1 shell rm -rf /data/local/tmp/egeunet-bench" in message
    assert phone.left()
    # The next run removes it before it does anything else.
    monkeypatch.setattr(remote_folder, "_TIDY_SECONDS", 20)
    phone.set(faults={})
    measure(phone, model)
    assert phone.left() == []


def test_a_cable_that_slips_in_a_copy(
    phone: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "_TIDY_SECONDS", 1)
    phone.set(faults={"push_eof": True})
    assert "phone SERIAL1 broke off: check the cable" in failure(phone, model)


def test_a_run_that_never_ends(phone: Any, model: Path) -> None:
    phone.set(faults={"hang": True})
    assert "had not ended after 1 s of timing tiny.tflite" in failure(phone, model, seconds=1)
    assert phone.left() == []


def test_two_runs_at_once_are_refused(phone: Any, model: Path) -> None:
    adb = remote_folder.Adb(str(phone.bin / "adb"), "SERIAL1")
    with remote_folder.opened(adb):
        assert "another run measures on phone SERIAL1" in failure(phone, model)
        assert phone.left() == ["egeunet-bench"]
    assert phone.left() == []


def test_files_that_no_phone_runs(phone: Any, tmp_path: Path) -> None:
    assert "a phone runs .tflite files, got '.onnx'" in failure(phone, tmp_path / "a.onnx")
    assert "model not found" in failure(phone, tmp_path / "a.tflite")
    assert phone.left() == []


def test_problem_is_found_without_starting_anything(
    phone: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert problem(AndroidOptions(benchmark_model=phone.tool)) is None
    assert "no benchmark_model in" in str(problem())
    absent = AndroidOptions(benchmark_model=tmp_path / "absent")
    assert problem(absent) == f"benchmark_model not found: {tmp_path / 'absent'}"
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert str(problem()).startswith("adb is not on PATH: install")
    assert not (phone.folder / "server").exists()
    sdk = tmp_path / "sdk" / "platform-tools"
    sdk.mkdir(parents=True)
    (sdk / "adb").symlink_to(phone.bin / "adb")
    monkeypatch.setenv("ANDROID_HOME", str(sdk.parent))
    assert problem(AndroidOptions(benchmark_model=phone.tool)) is None
