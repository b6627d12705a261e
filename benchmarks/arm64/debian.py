"""Debian's arm64 packages, unpacked into a folder without installing them.

An apt-get of its own folder that believes nothing is installed resolves the dependencies,
checks Debian's signatures, keeps partial downloads apart and resumes them. Every package
is checked against the SHA-256 of the signed list before it is unpacked.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from egeunet.benchmarks.arm64.host import Progress, run_tool
from egeunet.export.provenance import sha256_of
from egeunet.model.errors import InputError

#: With all that they depend on; libc6-dbg names the functions of libc.
PACKAGES = ("python3.11", "libstdc++6", "libc6-dbg")
#: Lines of apt-get --print-uris: 'URI' FILE BYTES SHA256:HEX
_LINE = re.compile(r"^'[^']+' (\S+\.deb) (\d+) SHA256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """One .deb as the signed list has it."""

    file: str
    size: int
    sha256: str

    def is_whole(self, folder: Path) -> bool:
        """Whether it lies in ``folder``, complete and unchanged."""
        path = folder / self.file
        return path.is_file() and sha256_of(path) == self.sha256


def fetch_packages(folder: Path, progress: Progress) -> tuple[Path, list[Package]]:
    """Download PACKAGES and their dependencies; whole ones of an earlier try are kept.

    Args:
        folder: apt-get's lists and archives.
        progress: told what is done.

    Returns:
        The folder with the .deb files, and what they are.

    Raises:
        InputError: apt-get's message, or a package whose hash is wrong after the download.
    """
    archives = folder / "archives"
    for name in ("lists", "archives/partial", "none/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")
    apt_get = _apt_get(folder)
    progress("reading Debian's list of arm64 packages")
    run_tool([*apt_get, "update"], "the list of arm64 packages cannot be had")
    install = ["install", "--yes", *PACKAGES]
    # It leaves out what lies in the archives: asked with an empty folder of archives.
    empty = f"-oDir::Cache::archives={folder / 'none'}"
    listed = run_tool([*apt_get, empty, *install, "--print-uris"], "no such arm64 packages")
    packages = read_uris(listed)
    if not packages:
        raise InputError("apt-get lists no arm64 package; its --print-uris has another form here")
    missing = [package for package in packages if not package.is_whole(archives)]
    for package in missing:  # apt-get would take one of the right size for whole
        (archives / package.file).unlink(missing_ok=True)
    there, size = len(packages) - len(missing), sum(package.size for package in missing)
    progress(f"{there} of {len(packages)} packages are here, downloading {size / 1e6:.1f} MB")
    if missing:
        run_tool([*apt_get, *install, "--download-only"], "arm64 packages cannot be had")
    for package in packages:
        if not package.is_whole(archives):
            raise InputError(f"{package.file} was downloaded with a wrong SHA-256; run this again")
    return archives, packages


def unpack_packages(archives: Path, packages: list[Package], target: Path) -> None:
    """Unpack into ``target``, which appears whole or not at all.

    Raises:
        InputError: dpkg-deb's message.
    """
    partial = target.with_name(target.name + ".partial")
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    for package in packages:
        command = ["dpkg-deb", "-x", str(archives / package.file), str(partial)]
        run_tool(command, f"{package.file} cannot be unpacked")
    partial.replace(target)


def read_uris(text: str) -> list[Package]:
    """What apt-get --print-uris printed."""
    return [Package(file, int(size), digest) for file, size, digest in _LINE.findall(text)]


def _apt_get(folder: Path) -> list[str]:
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",  # the folder may be closed to the user _apt
        "Acquire::ForceHash": "SHA256",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
        "Dir::State": str(folder),
        "Dir::State::status": str(folder / "status"),
        "Dir::State::lists": str(folder / "lists"),
        "Dir::Cache": str(folder),
        "Dir::Cache::archives": str(folder / "archives"),
    }
    return ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
