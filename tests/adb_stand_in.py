"""A stand-in for adb and for the phone behind it, and :class:`Phone`, which sets it up.

It follows platform-tools' client: its commands, exit codes and messages, word for word
where one is known. The phone's file system is a folder, its shell is this machine's sh
with ``/data/local/tmp`` mapped there, and benchmark_model prints what a real one printed
(versions 2018 to 2025) and runs the model by LiteRT where an output is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REMOTE = "/data/local/tmp"
#: The head of an ELF program for 64-bit Arm.
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(44)
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
	callbacks: 3
Thermal Status: {status}
Cached temperatures:
	Temperature{{mValue=84.208, mType=0, mName=CPU, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
	Temperature{{mValue=57.9, mType=0, mName=CPU0, mStatus=0}}
	Temperature{{mValue=61.5, mType=0, mName=CPU4, mStatus=0}}
	Temperature{{mValue=NaN, mType=2, mName=battery, mStatus=0}}
	Temperature{{mValue=34.351, mType=3, mName=SKIN, mStatus=0}}
Current cooling devices from HAL:
	CoolingDevice{{mValue=0, mType=2, mName=cpu0}}
"""
PROPERTIES = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "16",
    "ro.build.version.sdk": "36",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.soc.model": "Tensor G3",
    "ro.board.platform": "zuma",
}


class Phone:
    """The state of the stand-in, in a folder; put ``bin`` first on PATH to use it."""

    def __init__(self, folder: Path, **state: Any) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.files = folder / "fs"
        (self.files / "data" / "local" / "tmp").mkdir(parents=True)
        self.bin.mkdir()
        (folder / "phone_bin").mkdir()
        self.tool = folder / "android_aarch64_benchmark_model"
        self.tool.write_bytes(ELF + b"benchmark_model of the stand-in")
        self.state: dict[str, Any] = {
            "devices": {"SERIAL1": "device"},
            "version": "2024",
            "gpu": "all",
            "nnapi": "declines",
            "thermal": 0,
            "properties": PROPERTIES,
        }
        self.set(**state)
        # Isolated and without site-packages: it is started a dozen times a measurement.
        here = f"-I -S {Path(__file__).resolve()}"
        self._script(self.bin / "adb", f'exec {sys.executable} {here} adb {folder} "$@"')
        program = self._script
        program(folder / "phone_bin" / "tool", f'exec {sys.executable} {here} tool {folder} "$@"')
        program(folder / "phone_bin" / "getprop", f'cat "{folder}/properties/$1" 2>/dev/null')
        program(
            folder / "phone_bin" / "dumpsys",
            f'cat {folder}/thermal.txt 2>/dev/null || echo "Can\'t find service: $1"',
        )

    def set(self, **state: Any) -> None:
        """Change the state; see the keys in ``__init__`` and ``faults`` in the script."""
        self.state |= state
        (self.folder / "state.json").write_text(json.dumps(self.state))
        shutil.rmtree(self.folder / "properties", ignore_errors=True)
        (self.folder / "properties").mkdir()
        for name, value in self.state["properties"].items():
            (self.folder / "properties" / name).write_text(f"{value}\n")
        thermal = self.folder / "thermal.txt"
        thermal.unlink(missing_ok=True)
        if self.state["thermal"] is not None:
            thermal.write_text(THERMAL.format(status=self.state["thermal"]))

    def left(self) -> list[str]:
        """Everything that lies on the phone."""
        root = self.files / "data" / "local" / "tmp"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*"))

    def calls(self) -> list[list[str]]:
        """The command lines with which benchmark_model was started."""
        log = self.folder / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _script(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


def fail(message: str, code: int = 1) -> int:
    print(message, file=sys.stderr)
    return code


def adb(folder: Path, arguments: list[str]) -> int:
    state = json.loads((folder / "state.json").read_text())
    if not (folder / "server").exists():
        (folder / "server").touch()
        print("* daemon not running; starting now at tcp:5037", file=sys.stderr)
        print("* daemon started successfully", file=sys.stderr)
    if state.get("no_server"):
        return fail("adb: cannot connect to daemon at tcp:5037: Connection refused")
    if arguments == ["devices"]:
        print("List of devices attached")
        for serial, status in state["devices"].items():
            print(f"{serial}\t{status}")
        print()
        return 0
    serial = None
    if arguments[0] == "-s":
        serial, arguments = arguments[1], arguments[2:]
    copies = arguments[0] in ("push", "pull")
    prefix = "adb: error: failed to get feature set: " if copies else "error: "
    if serial is None and len(state["devices"]) > 1:
        return fail(f"{prefix}more than one device/emulator")
    serial = serial or next(iter(state["devices"]), None)
    if serial is None:
        return fail(f"{prefix}no devices/emulators found")
    status = state["devices"].get(serial)
    if arguments[0] == "wait-for-device":
        while json.loads((folder / "state.json").read_text())["devices"].get(serial) != "device":
            time.sleep(0.05)
        return 0
    if status is None:
        return fail(f"{prefix}device '{serial}' not found")
    if status == "unauthorized":
        return fail(
            f"{prefix}device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
            "Try 'adb kill-server' if that seems wrong.\n"
            "Otherwise check for a confirmation dialog on your device."
        )
    if status != "device":
        return fail(f"{prefix}device {status}")
    return {"push": push, "pull": pull, "shell": shell}[arguments[0]](folder, state, *arguments[1:])


def local(folder: Path, remote: str) -> Path:
    assert remote.startswith(REMOTE + "/"), remote
    return folder / "fs" / remote[1:]


def push(folder: Path, state: dict[str, Any], source: str, target: str) -> int:
    to = local(folder, target)
    if to.is_dir():
        to = to / Path(source).name
    if not to.parent.is_dir():
        return fail(
            f"adb: error: failed to copy '{source}' to '{target}': "
            "remote couldn't create file: No such file or directory"
        )
    used = sum(p.stat().st_size for p in (folder / "fs").rglob("*") if p.is_file())
    new = sum(p.stat().st_size for p in [Path(source), *Path(source).rglob("*")] if p.is_file())
    if used + new > state.get("capacity", 1 << 40):
        if Path(source).is_file():  # what fitted stays behind, as on a phone
            to.write_bytes(Path(source).read_bytes()[: state["capacity"] - used])
        print(f"{source}: 0 files pushed, 0 skipped. 5.2 MB/s (99995728 bytes in 18.348s)")
        return fail(
            f"adb: error: failed to copy '{source}' to '{target}': "
            "remote write failed: No space left on device"
        )
    if state.get("faults", {}).get("push_eof"):
        lose(folder, state)
        print(f"{source}: 1 file pushed, 0 skipped.")
        return fail("adb: error: failed to read copy response: EOF")
    if Path(source).is_dir():
        shutil.copytree(source, to)
        count = len(list(to.iterdir()))
        print(f"{source}/: {count} files pushed, 0 skipped. 12.0 MB/s (1 bytes in 0.0s)")
    else:
        shutil.copyfile(source, to)
        print(f"{source}: 1 file pushed, 0 skipped. 53.7 MB/s (15669632 bytes in 0.278s)")
    return 0


def pull(folder: Path, state: dict[str, Any], source: str, target: str) -> int:
    path = local(folder, source)
    if not path.exists():
        return fail(f"adb: error: failed to stat remote object '{source}': No such file")
    to = Path(target)
    if path.is_dir():
        shutil.copytree(path, to / path.name if to.is_dir() else to)
    else:
        shutil.copyfile(path, to)
    print(f"{source}: 1 file pulled, 0 skipped.")
    return 0


def lose(folder: Path, state: dict[str, Any]) -> None:
    """The cable slips: the phone is no longer listed."""
    state = {**state, "devices": {}}
    (folder / "state.json").write_text(json.dumps(state))


def shell(folder: Path, state: dict[str, Any], command: str) -> int:
    faults = state.get("faults", {})
    runs = "./benchmark_model" in command
    if faults.get("read_only") and "mkdir" in command:
        command = f"mkdir() {{ echo \"mkdir: '$2': Read-only file system\"; return 1; }}; {command}"
    line = command.replace(REMOTE, str(folder / "fs") + REMOTE).replace("./benchmark_model", "tool")
    env = {**os.environ, "PATH": f"{folder}/phone_bin:/usr/bin:/bin"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
        start_new_session=True,  # it goes on when adb is killed, as it may on a phone
    )  # fmt: skip
    if runs and "disconnect" in faults:
        (folder / "tool_started").unlink(missing_ok=True)
        while not (folder / "tool_started").exists():
            time.sleep(0.01)
        lose(folder, state)
        print("STARTING!", flush=True)
        os.killpg(process.pid, signal.SIGHUP)  # what adbd does to what it started
        process.wait()
        return int(faults["disconnect"])
    out, _ = process.communicate()
    if state.get("old"):  # before shell_v2: a terminal's line ends, no exit code
        sys.stdout.buffer.write(out.replace(b"\n", b"\r\n"))
        return 0
    sys.stdout.buffer.write(out)
    return process.returncode


SUMMARY = {
    "2018": "{p}Average inference timings in us: Warmup: 8100, Init: 4452, no stats: 7654.32",
    "2021": "{p}Inference timings in us: Init: 4452, First inference: 9876, "
    "Warmup (avg): 8100, Inference (avg): 7654.32",
}
SUMMARY["2024"] = SUMMARY["2021"]


def tool(folder: Path, arguments: list[str]) -> int:
    """benchmark_model: prints what a version of it prints, and runs the model if need be."""
    state = json.loads((folder / "state.json").read_text())
    with (folder / "calls").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    program = Path("benchmark_model")
    if not program.is_file() or not os.access(program, os.X_OK):
        return fail("sh: ./benchmark_model: can't execute: Permission denied", 126)
    if not program.read_bytes().startswith(ELF):
        return fail("sh: ./benchmark_model: not executable: 64-bit ELF file", 126)
    faults, version = state.get("faults", {}), state["version"]
    flags = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
    (folder / "tool_started").touch()
    if faults.get("hang") or "disconnect" in faults:
        (folder / "tool_process").write_text(str(os.getpid()))
        while program.exists():
            time.sleep(0.1)
    delegate = next(name for name in ("xnnpack", "gpu", "nnapi") if f"use_{name}" in flags)
    fault = faults.get(delegate, {})
    if "signal" in fault:
        print("STARTING!", flush=True)
        os.kill(os.getpid(), fault["signal"])
    if "prints" in fault:
        print(fault["prints"])
        return int(fault.get("code", 0))
    if version == "compiled":
        return compiled_model(flags)
    p = "INFO: " if version == "2024" else ""
    unknown = [f for f in state.get("unknown", ()) if f in flags]
    if unknown:
        print(f"{p}Unconsumed cmdline flags: " + " ".join(f"--{f}={flags[f]}" for f in unknown))
    print(f"{p}STARTING!\n{p}Num threads: [{flags['num_threads']}]\n{p}Graph: [{flags['graph']}]")
    code = delegate_lines(p, delegate, state)
    if code:
        return code
    count = max(int(flags["num_runs"]), 1)
    print(f"{p}Initialized session in 4.452ms.")
    percentiles = " p5=7004 median=7601 p95=8820" if version == "2024" else ""
    warm = int(flags["warmup_runs"])
    head = f"first=9876 curr=7900 min=7800 max=9876 avg=8100 std=300{percentiles}"
    print(f"{p}count={warm} {head}\n" if warm else f"{p}count=0\n")
    body = f"first=7700 curr=7600 min=7000 max=9000 avg=7654.32 std=211{percentiles}"
    print(f"{p}count={count} {body}\n" if count > 1 else f"{p}count=1 curr=7654\n")
    print(SUMMARY[version].format(p=p))
    if version == "2021":
        print("Peak memory footprint (MB): init=4.5 overall=26.5")
    if version == "2024":
        print(f"{p}Memory footprint delta from the start of the tool (MB): init=4.5 overall=14.25")
    if "output_filepath" in flags and "output_filepath" not in unknown:
        run_model(flags, delegate, faults.get("nan"))
    return 0


def delegate_lines(p: str, delegate: str, state: dict[str, Any]) -> int:
    if delegate == "xnnpack":
        print(f"{p}XNNPACK delegate created.")
        print("VERBOSE: Replacing 3 out of 3 node(s) with delegate (TfLiteXNNPackDelegate) node, "
              "yielding 1 partitions for subgraph 0.")  # fmt: skip
        print(f"{p}Explicitly applied XNNPACK delegate, and the model graph will be completely "
              "executed by the delegate.")  # fmt: skip
        return 0
    names = {"gpu": ("GPU", "TfLiteGpuDelegateV2"), "nnapi": ("NNAPI", "TfLiteNnapiDelegate")}
    name, node = names[delegate]
    how = state[delegate]
    if delegate == "nnapi":
        accelerators = state.get("accelerators", "google-edgetpu,nnapi-reference")
        print(f"{p}NNAPI accelerators available: [{accelerators}]")
    if how == "unsupported":
        print(f"{p}{name} acceleration is unsupported on this platform.")
    elif how == "fails":
        print("ERROR: NN API returned error ANEURALNETWORKS_OP_FAILED at line 3779.")
        print(f"{p}Failed to apply {name} delegate.\n{p}Benchmarking failed.")
        return 1
    else:
        taken = {"all": 3, "part": 2, "declines": 3}[how]
        print(f"VERBOSE: Replacing {taken} out of 3 node(s) with delegate ({node}) node, "
              "yielding 2 partitions for subgraph 0.")  # fmt: skip
        words = {"all": "completely executed by the delegate.",
                 "part": "partially executed by the delegate w/ 1 delegate kernels."}  # fmt: skip
        if how == "declines":
            print(f"{p}Though {name} delegate is explicitly applied, the model graph will not be "
                  "executed by the delegate.")  # fmt: skip
        else:
            print(f"{p}Explicitly applied {name} delegate, and the model graph will be "
                  f"{words[how]}")  # fmt: skip
    return 0


def compiled_model(flags: dict[str, str]) -> int:
    head = "INFO: [benchmark_litert_model.h:94]"
    ignored = [f for f in flags if f.startswith(("input_", "output_", "use_xnnpack"))]
    if ignored:
        print("WARN: Unconsumed cmdline flags: " + " ".join(f"--{f}={flags[f]}" for f in ignored))
    print(f"INFO: STARTING!\n{head} \n========== BENCHMARK RESULTS ==========")
    print(f"{head} Model initialization: 84.13 ms\n{head} Warmup (first):       9.88 ms")
    print(f"{head} Warmup (avg):         8.10 ms (5 runs)")
    print(f"{head} Inference (avg):      7.65 ms ({flags['num_runs']} runs)")
    print(f"{head} Inference (min):      7.00 ms\n{head} Inference (max):      9.00 ms")
    print(f"{head} Inference (std):      0.21\n{head} Throughput:           25.00 MB/s")
    print(f"{head} \nMemory Usage:\n{head} Init footprint:       4.50 MB")
    print(f"{head} Overall footprint:    14.25 MB")
    print(f"{head} Peak memory usage not available. (peak_mem_mb <= 0)")
    return 0


def run_model(flags: dict[str, str], delegate: str, nan: str | None) -> None:
    """The model's real output; a GPU computes in half precision."""
    import site

    site.main()
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(flags["graph"], num_threads=1)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    _, _, file = flags["input_layer_value_files"].partition(":")
    data = Path(file).read_bytes()
    shape = tuple(int(side) for side in flags["input_layer_shape"].split(","))
    assert shape == tuple(source["shape"])
    assert len(data) == int(np.prod(shape)) * np.dtype(source["dtype"]).itemsize
    interpreter.set_tensor(source["index"], np.frombuffer(data, source["dtype"]).reshape(shape))
    interpreter.invoke()
    output = interpreter.get_tensor(result["index"])
    if delegate == "gpu":
        output = output.astype(np.float16).astype(output.dtype)
    if nan and flags["output_filepath"].endswith(nan):
        output[:] = np.nan
    Path(flags["output_filepath"]).write_bytes(output.tobytes())


if __name__ == "__main__":
    part = {"adb": adb, "tool": tool}[sys.argv[1]]
    sys.exit(part(Path(sys.argv[2]), sys.argv[3:]))
