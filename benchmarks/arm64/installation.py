"""What counting needs, made once: an arm64 root, the runtimes' arm64 wheels, the plug-in.

    DIR/guest/usr, lib, ...   Debian packages, unpacked without installing them
    DIR/guest/opt/wheels      the runtimes
    DIR/guest/opt/guest.py    the program that runs a model there
    DIR/cpu/NAME/             links to guest/ beside this core's /proc/cpuinfo and /sys
    DIR/block_counts.so       the plug-in

Needs on the host: qemu-user (not qemu-user-static: that build takes no plug-ins), a C
compiler, apt-get and dpkg-deb. The host's own package state is neither read nor changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from egeunet.benchmarks.arm64.cpus import CPUS, Cpu
from egeunet.model.atomic import explained
from egeunet.model.errors import InputError

#: Debian packages with all that they depend on; libc6-dbg names the functions of libc.
PACKAGES = ("python3.11", "libstdc++6", "libc6-dbg")
#: Exactly these: a count belongs to a runtime's version.
WHEELS = ("ai-edge-litert==2.3.0", "numpy==2.4.6", "onnxruntime==1.32.0")
_PLATFORMS = ("manylinux_2_27", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
_SOURCES = Path(__file__).parent


def install(folder: Path) -> None:
    """Make ``folder`` ready for counting; what is complete already is left as it is.

    Raises:
        InputError: a tool is missing, or a package cannot be had (its message).
        OutputError: the folder cannot be written.
    """
    for tool in ("qemu-aarch64", "cc", "apt-get", "dpkg-deb", "setarch"):
        _needs(tool)
    folder = folder.absolute()
    guest = folder / "guest"
    with explained(folder):
        _once(folder / "debian.done", "\n".join(PACKAGES), lambda: _unpack_debian(folder, guest))
        _once(folder / "wheels.done", "\n".join(WHEELS), lambda: _unpack_wheels(folder, guest))
        shutil.copyfile(_SOURCES / "guest.py", guest / "opt" / "guest.py")
        for cpu in CPUS.values():
            _make_cpu_root(folder, cpu)
        compile_plugin(folder / "block_counts.so")


def compile_plugin(path: Path) -> None:
    """Compile the plug-in to ``path``; only a C compiler is needed.

    Raises:
        InputError: the compiler's last line.
    """
    warnings = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
    files = ["-o", str(path), str(_SOURCES / "block_counts.c")]
    _run(["cc", "-O2", *warnings, "-shared", "-fPIC", *files], "the plug-in does not compile")


def _needs(tool: str) -> None:
    if shutil.which(tool) is None:
        package = {"qemu-aarch64": "qemu-user", "cc": "gcc", "setarch": "util-linux"}.get(tool)
        hint = f"install the package {package}" if package else "this needs Debian or Ubuntu"
        raise InputError(f"{tool} is not on PATH; {hint}")


def _once(mark: Path, content: str, make: Callable[[], None]) -> None:
    """Run ``make`` unless ``mark`` says that it was done for this very content."""
    if mark.is_file() and mark.read_text() == content:
        return
    make()
    mark.write_text(content)


def _unpack_debian(folder: Path, guest: Path) -> None:
    """All of PACKAGES and their dependencies, by an apt that believes nothing is installed."""
    apt = folder / "apt"
    for name in ("lists", "archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "status").write_text("")
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Dir::State": str(apt),
        "Dir::State::status": str(apt / "status"),
        "Dir::State::lists": str(apt / "lists"),
        "Dir::Cache": str(apt),
        "Dir::Cache::archives": str(apt / "archives"),
    }
    apt_get = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    _run([*apt_get, "update"], "the list of arm64 packages cannot be had")
    download = [*apt_get, "install", "--yes", "--download-only", *PACKAGES]
    _run(download, "arm64 packages cannot be had")
    shutil.rmtree(guest, ignore_errors=True)
    (folder / "wheels.done").unlink(missing_ok=True)  # they were in there
    guest.mkdir(parents=True)
    for package in sorted((apt / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(guest)], f"{package.name} cannot be unpacked")
    shutil.rmtree(apt)


def _unpack_wheels(folder: Path, guest: Path) -> None:
    wheels = guest / "opt" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    platforms = [f"--platform={platform}_aarch64" for platform in _PLATFORMS]
    target = ["--only-binary=:all:", "--no-deps", "--python-version=3.11", "--implementation=cp"]
    pip = [sys.executable, "-m", "pip", "--quiet", "download", *target, *platforms]
    with tempfile.TemporaryDirectory(dir=folder) as downloaded:
        _run([*pip, "--dest", downloaded, *WHEELS], "arm64 wheels cannot be had")
        for wheel in sorted(Path(downloaded).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(wheels)


def _make_cpu_root(folder: Path, cpu: Cpu) -> None:
    root = folder / "cpu" / cpu.name
    shutil.rmtree(root, ignore_errors=True)
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text(cpu.cpuinfo())
    # One core, whatever the host has: its number must not enter the count.
    system = root / "sys" / "devices" / "system" / "cpu"
    system.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (system / name).write_text("0\n")
    (system / "kernel_max").write_text("0\n")
    for entry in sorted((folder / "guest").iterdir()):
        (root / entry.name).symlink_to(Path("..", "..", "guest", entry.name))


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise InputError(f"{failure}: {lines[-1] if lines else f'exit code {done.returncode}'}")
