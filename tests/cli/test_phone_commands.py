"""The commands for phones and Macs as a shell starts them: exit codes, one line, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import adb_stand_in as stand_in
import tiny_models as tiny
from egeunet.model import ModelContract

pytestmark = pytest.mark.xdist_group("android")


@pytest.fixture
def phone(tmp_path: Path) -> Any:
    return stand_in.Phone(tmp_path / "phone")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny.tflite_bytes(ModelContract(32, 32).to_dict(), io="uint8"))
    return path


def start(module: str, *arguments: object, path: Path | None = None) -> subprocess.Popen[str]:
    first = f"{path}:" if path else ""
    env = {**os.environ, "PATH": f"{first}/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    if path:  # where the lock of a phone lies: other tests have a SERIAL1 of their own
        env["TMPDIR"] = str(path)
    for name in ("ANDROID_SERIAL", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        env.pop(name, None)
    command = [sys.executable, "-m", f"egeunet.benchmarks.{module}", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip


def test_android(phone: Any, model: Path, tmp_path: Path) -> None:
    report = tmp_path / "phone.json"
    process = start(
        "android.cli_android", model, "--benchmark-model", phone.tool, "--phone-images", 1,
        "--phone-threads", 2, "--json", report, path=phone.bin,
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    cpu, gpu, skipped = out.splitlines()
    assert cpu.startswith("tiny.tflite|android-cpu|2: 7.654 ms (average), Google Pixel 8,")
    assert gpu.startswith("tiny.tflite|android-gpu|2: 7.654 ms (average)")
    assert skipped.startswith("skipped tiny.tflite, android-nnapi: ")
    written = json.loads(report.read_text())
    assert [row["device_parity"]["images"] for row in written["rows"]] == [1, 1]
    assert len(written["skipped"]) == 1 and phone.left() == []


def test_android_without_adb(model: Path, tmp_path: Path) -> None:
    process = start("android.cli_android", model, path=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("android: error: adb is not on PATH: install")


def test_control_c_leaves_nothing_on_the_phone(phone: Any, model: Path) -> None:
    phone.set(faults={"hang": True})
    process = start(
        "android.cli_android", model, "--benchmark-model", phone.tool, "--phone-images", 0,
        "--delegates", "cpu", path=phone.bin,
    )  # fmt: skip
    written = phone.folder / "tool_process"
    deadline = time.monotonic() + 120
    while not written.exists() or not written.read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    tool = int(written.read_text())
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.splitlines()[-1] == "android: interrupted; nothing half-written is left"
    assert "Traceback" not in err
    assert phone.left() == []
    while time.monotonic() < deadline:
        try:
            os.kill(tool, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("benchmark_model still runs on the phone")


@pytest.mark.skipif(sys.platform == "darwin", reason="SKIPPED LOUDLY: this is a Mac")
def test_mac_on_another_machine(tmp_path: Path) -> None:
    report = tmp_path / "mac.json"
    process = start("apple.cli_mac", tmp_path / "a.mlpackage", "--json", report)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and not out and not report.exists()
    assert err.splitlines() == [
        "mac: error: Core ML runs on a Mac only, this is Linux; see docs/phones.md"
    ]
