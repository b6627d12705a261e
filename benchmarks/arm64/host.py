"""What the host must have: an emulator that takes plug-ins, a C compiler, Debian's tools.

Installing them is the one step that needs root; everything else is done in a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable

from egeunet.model.errors import InputError

Progress = Callable[[str], None]

#: Command -> the Debian package that has it; None: only Debian and its kin have it.
#: qemu-user-static is of no use: that build takes no plug-ins.
_TOOLS = {
    "qemu-aarch64": "qemu-user",
    "cc": "gcc",
    "setarch": "util-linux",
    "apt-get": None,
    "dpkg-deb": None,
}
#: Needed to run what was set up.
_RUN_TOOLS = ("qemu-aarch64", "cc", "setarch")
#: QEMU's versions with plug-in API version 1: from the first, below the second.
_QEMU_VERSIONS = ((4, 2), (9, 0))


def missing_tools(names: tuple[str, ...] = _RUN_TOOLS) -> list[str]:
    """Those of the commands that are not on PATH."""
    return [name for name in names if shutil.which(name) is None]


def ensure_tools(progress: Progress) -> None:
    """Find every tool of the set-up; as root, install those that Debian has.

    Raises:
        InputError: not a Debian host; not root, with the command to run; apt-get's message;
            or a QEMU whose plug-in interface is another one.
    """
    missing = missing_tools(tuple(_TOOLS))
    for tool in missing:
        if _TOOLS[tool] is None:
            raise InputError(
                f"{tool} is not on PATH; the set-up takes arm64 packages by Debian's tools: "
                "run it on Debian 12 or in a container of it (debian:12)"
            )
    if missing:
        packages = " ".join(sorted(str(_TOOLS[tool]) for tool in missing))
        if os.geteuid() != 0:
            raise InputError(
                f"{', '.join(missing)}: not on PATH, and installing needs root: run "
                f"'sudo apt-get install {packages}', then this again (nothing else needs root)"
            )
        progress(f"installing {packages} with apt-get (the one step that needs root)")
        run_tool(["apt-get", "-qq", "update"], "apt-get update failed")
        install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        failure = f"{packages} cannot be installed"
        run_tool([*install, *packages.split()], failure, environment)
        if still := missing_tools(tuple(_TOOLS)):
            raise InputError(f"apt-get installed {packages}, but {still[0]} is not on PATH")
    check_qemu(run_tool(["qemu-aarch64", "--version"], "qemu-aarch64 does not run"))


def check_qemu(said: str) -> None:
    """Refuse a QEMU without plug-in API version 1; ``said`` is what --version prints.

    Raises:
        InputError: with the version seen.
    """
    found = re.search(r"version (\d+)\.(\d+)", said)
    first, end = _QEMU_VERSIONS
    if found is None or not first <= (int(found[1]), int(found[2])) < end:
        seen = found[0] if found else repr(said[:60])
        raise InputError(
            f"qemu-aarch64 is {seen}; the counting plug-in needs 4.2 to 8.2: "
            "use Debian 12's qemu-user (7.2)"
        )


def run_tool(command: list[str], failure: str, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and give its standard output.

    Raises:
        InputError: ``failure`` and the command's last line.
    """
    # English messages; apt's progress bars are off when its output is no terminal.
    environment = {**(environment or os.environ), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "ERROR:"))]
        said = (errors or lines or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"{failure}: {said}")
    return done.stdout
