"""A full disk and a read-only one: one clear line, exit code 2, and nothing left on it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_models as tiny

pytestmark = pytest.mark.xdist_group("faults")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", seed=5)


#: Mounts a tmpfs of its own, which nobody else sees, runs the command, lists what it left.
_IN_A_TMPFS = """\
mount -t tmpfs -o "size=$2" tmpfs "$1" || exit 99
[ "$3" = rw ] || mount -o remount,ro "$1" || exit 99
folder=$1; listing=$4; shift 4
"$@"; code=$?
find "$folder" -mindepth 1 > "$listing"
exit $code
"""


@pytest.mark.parametrize(
    ("size", "mode", "words"),
    [("64k", "rw", "No space left on device; free some space"),
     ("4m", "ro", "Read-only file system; choose a folder you may write to")],
    ids=["full disk", "read-only folder"],
)  # fmt: skip
@pytest.mark.parametrize(
    "command",
    ["egeunet-export --weights WEIGHTS --out OUT --format tflite",
     "egeunet-data synthetic --count 4 --size 256 --out OUT/new"],
    ids=["export", "data"],
)  # fmt: skip
def test_disk(
    weights: Path, tmp_path: Path, command: str, size: str, mode: str, words: str
) -> None:
    out, listing = tmp_path / "out", tmp_path / "listing"
    out.mkdir()
    name, *arguments = command.split()
    filled = [a.replace("WEIGHTS", str(weights)).replace("OUT", str(out)) for a in arguments]
    program = [str(Path(sys.executable).parent / name), *filled]
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("SKIPPED LOUDLY: no unshare here, so full and read-only disks are not tested")
    done = subprocess.run(
        [unshare, "--map-root-user", "--mount", "sh", "-c", _IN_A_TMPFS, "sh",
         str(out), size, mode, str(listing), *program],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode in (1, 99) and not listing.exists():
        pytest.skip(f"SKIPPED LOUDLY: a tmpfs cannot be mounted here: {done.stderr.strip()}")
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()  # one, and so no traceback
    assert line.startswith(f"{name}: error: ") and words in line, line
    assert listing.read_text() == ""
