"""Files appear whole or not at all: kill -9, exceptions, full disks, paths already taken."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from egeunet.model.atomic import replacing, write_bytes
from egeunet.model.errors import OutputError

OLD, NEW = b"old" * 1000, b"new" * 1000


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_file_is_made_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.bin"
    for data in (OLD, NEW, b""):
        write_bytes(target, data)
        assert target.read_bytes() == data
        assert names(target.parent) == ["file.bin"]
    write_bytes(str(target), OLD)
    assert target.read_bytes() == OLD


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(OLD)
    write_bytes(tmp_path / "ours", OLD)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_what_was_there(
    tmp_path: Path, error: BaseException, existed: bool
) -> None:
    target = tmp_path / "file.bin"
    if existed:
        target.write_bytes(OLD)
    with pytest.raises(type(error)), replacing(target) as temporary:
        temporary.write_bytes(NEW[:100])
        raise error
    assert names(tmp_path) == (["file.bin"] if existed else [])
    assert not existed or target.read_bytes() == OLD


_DIES = """
import os, signal, sys
from egeunet.model.atomic import replacing
with replacing(sys.argv[1]) as temporary:
    with temporary.open("wb") as file:
        file.write(b"new" * 500)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(OLD)
    assert python(_DIES, target).returncode == -signal.SIGKILL
    assert target.read_bytes() == OLD
    # Nobody can clean up after kill -9: what is left is hidden and says what it is.
    left = [name for name in names(tmp_path) if name != "file.bin"]
    assert [(n[:10], n[-8:]) for n in left] == [(".file.bin.", ".partial")]
    write_bytes(target, NEW)
    assert target.read_bytes() == NEW


def test_kill_9_in_the_middle_of_a_first_write_leaves_no_file(tmp_path: Path) -> None:
    assert python(_DIES, tmp_path / "file.bin").returncode == -signal.SIGKILL
    assert not (tmp_path / "file.bin").exists()


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(OLD)
    with target.open("rb") as reader:  # opened before the change: goes on with the old file
        write_bytes(target, NEW)
        assert reader.read() == OLD
    assert target.read_bytes() == NEW


def test_a_package_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "net.mlpackage"
    for content in ("first", "second"):
        with replacing(target) as temporary:
            (temporary / "Data").mkdir(parents=True)
            (temporary / "Data" / f"{content}.bin").write_text(content)
        assert names(target / "Data") == [f"{content}.bin"]
        assert names(tmp_path) == ["net.mlpackage"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_package_folder_comes_back_when_its_successor_cannot_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = tmp_path / "net.mlpackage"
    target.mkdir()
    (target / "old.bin").write_bytes(OLD)
    real = Path.replace

    def replace(self: Path, to: Path) -> Path:
        if to == target and self.name == target.name:
            raise error
        return real(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((OutputError, KeyboardInterrupt)), replacing(target) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["net.mlpackage"]
    assert (target / "old.bin").read_bytes() == OLD


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(OutputError, match=reason) as caught:
        write_bytes(path, NEW)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_paths_that_are_taken_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "folder.bin").mkdir()
    assert_refused(tmp_path / "folder.bin", "is a folder; expected to write a file there")
    assert_refused(tmp_path / "file" / "x.bin", "a part of the path is a file, not a folder")
    assert_refused(tmp_path / "file" / "deeper" / "x.bin", "a part of the path is a file")
    with pytest.raises(OutputError, match=r"net\.mlpackage"):
        (tmp_path / "net.mlpackage").write_bytes(OLD)
        with replacing(tmp_path / "net.mlpackage") as temporary:
            temporary.mkdir()
    assert names(tmp_path) == ["file", "folder.bin", "net.mlpackage"]
    assert (tmp_path / "file").read_bytes() == OLD


def test_a_name_too_long_for_the_disk_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path / ("x" * 300), "cannot write .*; check the path")
    assert names(tmp_path) == []


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), replacing(tmp_path / "file.bin"):
        pass
    assert names(tmp_path) == []


_FULL = """
import sys
from pathlib import Path
from egeunet.model.atomic import write_bytes
from egeunet.model.errors import OutputError
target = Path(sys.argv[1]) / "file.bin"
if sys.argv[2] == "full":
    write_bytes(target, b"old")
try:
    write_bytes(target, bytes(1 << 20))
except OutputError as error:
    print(error)
    print(sorted(p.name for p in target.parent.iterdir()), target.exists() and target.read_bytes())
"""


@pytest.mark.parametrize(
    ("state", "option", "reason", "left"),
    [
        ("full", "rw", "No space left on device; free some space", "['file.bin'] b'old'"),
        ("read-only", "ro", "Read-only file system; choose a folder", "[] False"),
    ],
)
def test_a_disk_that_cannot_be_written_is_named(
    tmp_path: Path, state: str, option: str, reason: str, left: str
) -> None:
    # A small disk of its own, in a mount namespace that ends with the process.
    unshare = shutil.which("unshare")
    space = [unshare or "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = f'mount -t tmpfs -o size=64k,{option} none "$1"'
    tried = [*space, "sh", "-c", mount, "sh", str(tmp_path)]
    if unshare is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("SKIPPED LOUDLY: no small tmpfs may be mounted, so a full disk is not tried")
    script = f'{mount} && exec "$2" -c "$3" "$1" "$4"'
    command = [*space, "sh", "-c", script, "sh", str(tmp_path), sys.executable, _FULL, state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    message, found = done.stdout.splitlines()
    assert message.startswith(f"cannot write {tmp_path / 'file.bin'}: {reason}")
    assert found == left


def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere; the read-only disk above stands for this")
    tmp_path.chmod(0o500)
    try:
        assert_refused(tmp_path / "file.bin", "choose a folder you may write to")
    finally:
        tmp_path.chmod(0o700)


def test_what_a_killed_process_left_is_removed_and_a_living_one_is_not(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead = tmp_path / f".file.bin.{done.pid}-abc.partial"
    alive = tmp_path / f".file.bin.{os.getpid()}-abc.partial"
    other = tmp_path / f".file.bin2.{done.pid}-abc.partial"
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "file.bin").write_bytes(b"half")
    write_bytes(tmp_path / "file.bin", b"whole")
    assert not dead.exists()
    assert alive.exists() and other.exists()
