"""The set-up with stand-ins for apt-get and dpkg-deb, and real pip on wheels made here."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from egeunet.benchmarks.arm64 import debian, host, installation, wheels
from egeunet.model.errors import InputError

# Lists two packages; downloads them, the second only half when TEST_BREAKS exists.
_APT_GET = """#!/bin/sh
here={here}
echo "$@" >> $here/calls
case "$*" in
*update*) [ ! -e $here/offline ] || {{ echo "E: no network" >&2; exit 100; }} ;;
*--print-uris*)
    echo "'http://x/a_1%3a2_arm64.deb' a_1%3a2_arm64.deb 3 SHA256:{a}"
    echo "'http://x/b_1_arm64.deb' b_1_arm64.deb 6 SHA256:{b}" ;;
*--download-only*)
    for setting in "$@"; do
        case $setting in -oDir::Cache::archives=*) archives=${{setting#*=}} ;; esac
    done
    [ -e "$archives/a_1%3a2_arm64.deb" ] || printf aaa > "$archives/a_1%3a2_arm64.deb"
    if [ -e $here/breaks ]; then
        printf bb > $archives/b_1_arm64.deb  # cut short
        echo "E: connection lost" >&2
        exit 100
    fi
    [ -e $archives/b_1_arm64.deb ] || printf bbbbbb > $archives/b_1_arm64.deb ;;
esac
"""
_DPKG_DEB = """#!/bin/sh
[ "$1" = -x ] || exit 2
mkdir -p "$3/usr/bin" && cp "$2" "$3/usr/bin/"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH with the stand-ins."""
    folder = tmp_path / "tools"
    folder.mkdir()
    a, b = (hashlib.sha256(data).hexdigest() for data in (b"aaa", b"bbbbbb"))
    _script(folder / "apt-get", _APT_GET.format(here=folder, a=a, b=b))
    _script(folder / "dpkg-deb", _DPKG_DEB)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_packages_are_listed_with_their_hashes() -> None:
    text = f"Reading...\n'http://x/a_1%3a2.deb' a_1%3a2.deb 30 SHA256:{'0f' * 32}\nrubbish\n"
    assert debian.read_uris(text) == [debian.Package("a_1%3a2.deb", 30, "0f" * 32)]


def test_an_interrupted_download_goes_on(tools: Path, tmp_path: Path) -> None:
    (tools / "breaks").touch()
    said: list[str] = []
    folder = tmp_path / "download"
    with pytest.raises(InputError, match="cannot be had: E: connection lost"):
        debian.fetch_packages(folder, said.append)
    assert (folder / "archives" / "b_1_arm64.deb").read_bytes() == b"bb"
    (tools / "breaks").unlink()
    archives, packages = debian.fetch_packages(folder, said.append)
    assert said[-1].startswith("1 of 2 packages are here")
    assert all(package.is_whole(archives) for package in packages)
    # A third time nothing is left to download.
    before = (tools / "calls").read_text().count("--download-only")
    debian.fetch_packages(folder, said.append)
    assert (tools / "calls").read_text().count("--download-only") == before


def test_a_wrong_hash_is_not_unpacked(tools: Path, tmp_path: Path) -> None:
    text = (tools / "apt-get").read_text()
    (tools / "apt-get").write_text(text.replace("printf bbbbbb", "printf bbbbbc"))
    with pytest.raises(InputError, match=r"b_1_arm64\.deb was downloaded with a wrong SHA-256"):
        debian.fetch_packages(tmp_path / "download", lambda line: None)


def test_unpacking_replaces_what_an_interrupt_left(tools: Path, tmp_path: Path) -> None:
    archives, packages = debian.fetch_packages(tmp_path / "download", lambda line: None)
    target = tmp_path / "guest"
    for left in (target, tmp_path / "guest.partial"):
        left.mkdir()
        (left / "half").touch()
    debian.unpack_packages(archives, packages, target)
    assert sorted(path.name for path in target.rglob("*.deb")) == [p.file for p in packages]
    assert not (target / "half").exists() and not (tmp_path / "guest.partial").exists()


def test_no_network_is_one_line(tools: Path, tmp_path: Path) -> None:
    (tools / "offline").touch()
    with pytest.raises(InputError, match=r"^the list of arm64 packages cannot be had: E: no net"):
        debian.fetch_packages(tmp_path / "download", lambda line: None)


@pytest.fixture
def tiny_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip finds in a folder, and the only one of the set-up."""
    source = tmp_path / "source"
    source.mkdir()
    path = source / "tinyarm-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinyarm.py", "answer = 42\n")
        metadata = "Metadata-Version: 2.1\nName: tinyarm\nVersion: 1.0\n"
        archive.writestr("tinyarm-1.0.dist-info/METADATA", metadata)
        tag = "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_aarch64\n"
        archive.writestr("tinyarm-1.0.dist-info/WHEEL", tag)
        archive.writestr("tinyarm-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(wheels, "WHEELS", (wheels.Wheel("tinyarm==1.0", digest),))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    return path


def test_wheels_are_kept_when_whole_and_fetched_again_when_not(
    tiny_wheel: Path, tmp_path: Path
) -> None:
    folder, said = tmp_path / "wheels", list[str]()
    folder.mkdir()
    (folder / tiny_wheel.name).write_bytes(tiny_wheel.read_bytes()[:100])  # cut short
    (folder / "abc.partial").mkdir()
    fetched = wheels.fetch_wheels(folder, said.append)
    assert [path.read_bytes() for path in fetched] == [tiny_wheel.read_bytes()]
    assert said == ["downloading tinyarm==1.0 for arm64 from the package index"]
    assert not list(folder.glob("*.partial"))
    assert wheels.fetch_wheels(folder, said.append) == fetched
    assert said[1:] == ["tinyarm==1.0 for arm64 is here"]
    wheels.unpack_wheels(fetched, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "tinyarm.py").read_text() == "answer = 42\n"


def test_another_wheel_of_that_version_is_refused(
    tiny_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "WHEELS", (wheels.Wheel("tinyarm==1.0", "0" * 64),))
    with pytest.raises(InputError, match=r"tinyarm==1\.0 cannot be had: .*(?i:hash)"):
        wheels.fetch_wheels(tmp_path / "wheels", lambda line: None)
    assert not list((tmp_path / "wheels").glob("*"))


def _only(names: tuple[str, ...]) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in names else None


def test_without_root_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.shutil, "which", _only(("cc", "setarch", "apt-get", "dpkg-deb")))
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    with pytest.raises(InputError, match="needs root: run 'sudo apt-get install qemu-user'"):
        host.ensure_tools(lambda line: None)


def test_root_installs_the_emulator_and_says_so(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    there = ("setarch", "apt-get", "dpkg-deb")
    monkeypatch.setattr(host.shutil, "which", _only(there))
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    with pytest.raises(InputError, match="installed gcc qemu-user, but qemu-aarch64 is not"):
        host.ensure_tools(said.append)  # the stand-in installs nothing
    assert said == ["installing gcc qemu-user with apt-get (the one step that needs root)"]
    assert "--no-install-recommends gcc qemu-user" in (tools / "calls").read_text()


def test_another_system_is_told_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.shutil, "which", _only(("qemu-aarch64", "cc", "setarch")))
    with pytest.raises(InputError, match=r"apt-get is not on PATH; .*debian:12"):
        host.ensure_tools(lambda line: None)


@pytest.mark.parametrize("version", ["4.2.0", "7.2.22 (Debian 1:7.2)", "8.2.2"])
def test_versions_of_qemu_that_take_the_plug_in(version: str) -> None:
    host.check_qemu(f"qemu-aarch64 version {version}\nCopyright")


@pytest.mark.parametrize("said", ["qemu-aarch64 version 9.0.1", "version 3.1", "", "no"])
def test_versions_of_qemu_that_do_not(said: str) -> None:
    with pytest.raises(InputError, match=r"needs 4\.2 to 8\.2"):
        host.check_qemu(said)


def test_problem_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "missing_tools", list)
    assert "holds no arm64 system; run egeunet-bench" in str(installation.problem(tmp_path))
    (tmp_path / "done.txt").write_text("python3.11\nnumpy==1.0\n")
    assert "made for other versions" in str(installation.problem(tmp_path))
    monkeypatch.setattr(installation, "missing_tools", lambda: ["qemu-aarch64"])
    assert str(installation.problem(tmp_path)).startswith("qemu-aarch64 is not on PATH")


def test_default_root_is_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert installation.default_root() == tmp_path / "egeunet-mobile" / "arm64"


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path, progress: Callable[[str], None]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(installation, "ensure_tools", lambda progress: None)
    monkeypatch.setattr(installation, "problem", lambda root: "not ready")
    monkeypatch.setattr(installation, "fetch_packages", stop)
    with pytest.raises(KeyboardInterrupt, match="goes on where it stopped"):
        installation.setup(tmp_path / "root", lambda line: None)
    assert not (tmp_path / "root" / "done.txt").exists()


def test_two_setups_of_one_folder_wait(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with installation._alone(tmp_path, said.append):
            order.append("second")

    with installation._alone(tmp_path, said.append):
        waiting = threading.Thread(target=second)
        waiting.start()
        while not said:  # until it says that it waits
            waiting.join(0.01)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert said == ["waiting for another set-up of the same folder"]
