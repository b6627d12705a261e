"""What counting needs, made once in a cache folder: an arm64 system and the runtimes in it.

    ROOT/guest/usr, lib, ...   Debian packages, unpacked without installing them
    ROOT/wheels                the runtimes
    ROOT/cpu/NAME/             links to both beside this core's /proc/cpuinfo and /sys
    ROOT/block_counts-*.so     the counting plug-in, compiled on first use
    ROOT/download              what was downloaded so far, until all is unpacked

The host's own package state is neither read nor changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egeunet.benchmarks.arm64.cpus import CPUS, DEFAULT_CPU, Cpu
from egeunet.benchmarks.arm64.debian import PACKAGES, fetch_packages, unpack_packages
from egeunet.benchmarks.arm64.host import Progress, ensure_tools, missing_tools, run_tool
from egeunet.benchmarks.arm64.wheels import WHEELS, fetch_wheels, unpack_wheels
from egeunet.export.provenance import sha256_of
from egeunet.model.atomic import explained, replacing
from egeunet.model.errors import InputError

#: The command that :func:`problem` names.
SETUP_COMMAND = "egeunet-bench --setup arm64"
_SOURCE = Path(__file__).parent / "block_counts.c"
#: Says what the root was made of; written last.
_DONE = "done.txt"
_CONTENT = "\n".join((*PACKAGES, *(f"{w.requirement} {w.sha256}" for w in WHEELS), ""))
_TRIAL = "import numpy, ai_edge_litert.interpreter, onnxruntime; print('ready')"


def default_root() -> Path:
    """Where the arm64 system is kept: the user's cache folder (XDG_CACHE_HOME is heeded)."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "egeunet-mobile" / "arm64"


def problem(root: Path | None = None) -> str | None:
    """Why no arm64 build can be run here, in one line; None = it can. Cheap."""
    root = root or default_root()
    if missing := missing_tools():
        return f"{missing[0]} is not on PATH; run {SETUP_COMMAND}"
    done = root / _DONE
    if not done.is_file():
        return f"{root} holds no arm64 system; run {SETUP_COMMAND}"
    if done.read_text() != _CONTENT:
        return f"{root} was made for other versions; run {SETUP_COMMAND}"
    return None


def setup(root: Path | None = None, progress: Progress = print) -> Path:
    """Make ``root`` ready: download, check, unpack, compile, try. What is done is kept.

    Only installing the emulator needs root, see :func:`ensure_tools`. After an interrupt or
    a lost connection the same call goes on where it stopped.

    Args:
        root: folder to make; :func:`default_root` if None.
        progress: gets a line for each step.

    Returns:
        The folder.

    Raises:
        InputError: a tool is missing, or a package cannot be had (its message).
        OutputError: the folder cannot be written.
        KeyboardInterrupt: with the advice to run it again.
    """
    root = (root or default_root()).absolute()
    try:
        ensure_tools(progress)
        with explained(root):
            root.mkdir(parents=True, exist_ok=True)
            with _alone(root, progress):
                _make(root, progress)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("run it again: it goes on where it stopped") from stop
    return root


def plugin(root: Path) -> Path:
    """The counting plug-in, compiled if this version of its source was not yet.

    Raises:
        InputError: the compiler's last line.
        OutputError: the folder cannot be written.
    """
    path = root.absolute() / f"block_counts-{sha256_of(_SOURCE)[:12]}.so"
    if not path.is_file():
        with replacing(path) as temporary:
            compile_plugin(temporary)
    return path


def compile_plugin(path: Path) -> None:
    """Compile the plug-in to ``path``, warnings being errors; only a C compiler is needed.

    Raises:
        InputError: the compiler's last line.
    """
    # QEMU gives every callback arguments that it does not need.
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
    files = ["-o", str(path), str(_SOURCE)]
    run_tool(["cc", "-O2", *warnings, "-shared", "-fPIC", *files], "the plug-in does not compile")


def _make(root: Path, progress: Progress) -> None:
    downloads = root / "download"
    if problem(root) is None:
        progress(f"{root} is ready")
    else:
        (root / _DONE).unlink(missing_ok=True)
        archives, packages = fetch_packages(downloads / "debian", progress)
        wheels = fetch_wheels(downloads / "wheels", progress)
        progress("unpacking")
        unpack_packages(archives, packages, root / "guest")
        unpack_wheels(wheels, root / "wheels")
        listed = "".join(f"{package.sha256} {package.file}\n" for package in packages)
        (root / "packages.txt").write_text(listed)
    for cpu in CPUS.values():
        _make_cpu_root(root, cpu)
    progress("compiling the counting plug-in and starting Python on the emulated core")
    _try(root)
    (root / _DONE).write_text(_CONTENT)
    shutil.rmtree(downloads, ignore_errors=True)
    progress(f"ready: {root}")


def _try(root: Path) -> None:
    """Import every runtime on the emulated core, with the plug-in."""
    cpu_root = root / "cpu" / DEFAULT_CPU
    with tempfile.TemporaryDirectory() as name:
        argument = f"{plugin(root)},out={Path(name) / 'counts'}"
        qemu = ["qemu-aarch64", "-cpu", DEFAULT_CPU, "-L", str(cpu_root), "-plugin", argument]
        python = [str(cpu_root / "usr" / "bin" / "python3.11"), "-B", "-s", "-S", "-c", _TRIAL]
        environment = {**os.environ, "PYTHONPATH": "/opt/wheels", "ORT_DISABLE_TELEMETRY": "1"}
        failure = "the arm64 system does not run"
        if "ready" not in run_tool([*qemu, *python], failure, environment):
            raise InputError(f"{failure}: Python on the emulated core printed nothing")


@contextmanager
def _alone(root: Path, progress: Progress) -> Iterator[None]:
    """Two set-ups of one folder would unpack over one another."""
    import fcntl  # Windows has none; importing this module must work there

    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another set-up of the same folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_cpu_root(root: Path, cpu: Cpu) -> None:
    cpu_root = root / "cpu" / cpu.name
    shutil.rmtree(cpu_root, ignore_errors=True)
    (cpu_root / "proc").mkdir(parents=True)
    (cpu_root / "proc" / "cpuinfo").write_text(cpu.cpuinfo())
    # One core, whatever the host has: its number must not enter the count.
    system = cpu_root / "sys" / "devices" / "system" / "cpu"
    system.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (system / name).write_text("0\n")
    (system / "kernel_max").write_text("0\n")
    for entry in sorted((root / "guest").iterdir()):
        if entry.name not in ("proc", "sys", "opt"):
            (cpu_root / entry.name).symlink_to(Path("..", "..", "guest", entry.name))
    (cpu_root / "opt").mkdir()
    (cpu_root / "opt" / "wheels").symlink_to(Path("..", "..", "..", "wheels"))
