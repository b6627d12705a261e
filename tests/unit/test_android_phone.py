"""Which phone, what it is, and which benchmark_model it takes: texts of real phones."""

from __future__ import annotations

from pathlib import Path

import pytest

from egeunet.benchmarks.android.adb import Adb, ConnectionLost
from egeunet.benchmarks.android.benchmark_tool import elf_machine, find_tool
from egeunet.benchmarks.android.options import AndroidOptions
from egeunet.benchmarks.android.phone import connected
from egeunet.model.errors import InputError

LISTING = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
RZCT809FTQM\tdevice
emulator-5554          offline transport_id:2
0a388e93\tno permissions (missing udev rules? user is in the plugdev group); see [http://d.a.com]
192.168.1.100:41449    device product:shiba model:Pixel_8 device:shiba transport_id:1
0123456789ABCDEF       unauthorized usb:1-1 transport_id:3

"""


def test_the_list_of_phones() -> None:
    assert connected(LISTING) == {
        "RZCT809FTQM": "device",
        "emulator-5554": "offline",
        "0a388e93": "no permissions",
        "192.168.1.100:41449": "device",
        "0123456789ABCDEF": "unauthorized",
    }
    assert connected("List of devices attached\n\n") == {}


@pytest.mark.parametrize(
    ("message", "lost", "expected"),
    [
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", True,
         "has not allowed this computer to debug"),
        ("adb: error: failed to get feature set: device offline", True, "is offline"),
        ("adb: device 'X1' not found", True, "phone X1 is gone"),
        ("adb: error: failed to get feature set: no devices/emulators found", True, "is gone"),
        ("adb: more than one device/emulator", True, "choose by --serial"),
        ("[ 92%] /data/local/tmp/a\nadb: error: failed to copy 'a' to '/b': remote write failed: "
         "No space left on device\na: 0 files pushed, 0 skipped.", False, "storage"),
        ("a: 1 file pushed, 0 skipped.\nadb: error: failed to read copy response: EOF", True,
         "check the cable"),
        ("adb: cannot connect to daemon at tcp:5037: Connection refused", True, "kill-server"),
        ("mkdir: '/data/local/tmp/x': Read-only file system", False, "refuses to write"),
        ("* daemon started successfully\nsh: taskset: inaccessible or not found", False,
         "adb failed while working: sh: taskset: inaccessible or not found"),
        ("", False, "no message"),
    ],
)  # fmt: skip
def test_adbs_messages(message: str, lost: bool, expected: str) -> None:
    error = Adb("adb", "X1").explain(message, "working")
    assert expected in str(error) and "\n" not in str(error)
    assert isinstance(error, ConnectionLost) == lost


def elf(machine: int, order: str = "little") -> bytes:
    head = b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02") + bytes(12)
    return head + machine.to_bytes(2, order) + bytes(8)  # type: ignore[arg-type]


def test_the_tool_must_be_built_for_the_phone(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(elf(183))
    assert find_tool(tool, "arm64-v8a") == tool
    with pytest.raises(InputError, match="is arm64-v8a, the phone takes x86_64: get the build"):
        find_tool(tool, "x86_64")
    tool.write_text("#!/bin/sh\n")
    with pytest.raises(InputError, match="is no program for Android"):
        find_tool(tool, "arm64-v8a")
    with pytest.raises(InputError, match="ABI is riscv64; expected one of"):
        find_tool(tool, "riscv64")
    with pytest.raises(InputError, match=r"absent cannot be read \(No such file"):
        find_tool(tmp_path / "absent", "arm64-v8a")
    tool.write_bytes(elf(21, "big"))
    assert elf_machine(tool) == 21


def test_the_tool_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "egeunet-mobile" / "android"
    with pytest.raises(InputError, match="put LiteRT's build android_aarch64_benchmark_model into"):
        find_tool(None, "arm64-v8a")
    folder.mkdir(parents=True)
    (folder / "benchmark_model").write_bytes(elf(183))
    assert find_tool(None, "arm64-v8a") == folder / "benchmark_model"
    (folder / "android_aarch64_benchmark_model").write_bytes(elf(183))
    assert find_tool(None, "arm64-v8a") == folder / "android_aarch64_benchmark_model"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"delegates": ("cpu", "npu")}, "delegates must be some of cpu, gpu, nnapi"),
        ({"delegates": ()}, "delegates must be some of"),
        ({"threads": (1, 0)}, "thread counts must be positive"),
        ({"threads": (2, 2)}, "threads must differ"),
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"images": -1}, "images must be at least 0"),
        ({"affinity": "0xf0; rm"}, "hexadecimal mask"),
    ],
)
def test_bad_options(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AndroidOptions(**values)  # type: ignore[arg-type]
