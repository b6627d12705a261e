"""The one folder on the phone that everything goes into, and that never outlives its use."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from egeunet.benchmarks.android.adb import Adb
from egeunet.model.atomic import explained
from egeunet.model.errors import EgeunetError, InputError

#: The shell user of adb may write and execute here.
FOLDER = "/data/local/tmp/egeunet-bench"
_TIDY_SECONDS = 20
#: 137 = 128 + SIGKILL and so on, as every shell has it.
_SIGNALS = {137: "killed", 139: "crashed (segmentation fault)", 134: "aborted", 143: "terminated"}


class RemoteFolder:
    """A folder on the phone as a context manager; see :func:`opened`."""

    def __init__(self, adb: Adb) -> None:
        self.adb = adb

    def push(self, source: Path, name: str, what: str) -> None:
        """Copy a file, or a folder with its files, to ``name`` in the folder.

        Raises:
            InputError: the storage is full, or the phone is gone.
        """
        target = f"{FOLDER}/{name}"
        doing = f"copying {what} to the phone"
        self.adb.run("push", str(source), target, doing=doing, seconds=300)

    def pull(self, name: str, target: Path, what: str) -> None:
        """Copy a file or folder from the phone.

        Raises:
            InputError: it is not there, or the phone is gone.
        """
        doing = f"copying {what} from the phone"
        self.adb.run("pull", f"{FOLDER}/{name}", str(target), doing=doing, seconds=300)

    def shell(self, command: str, doing: str) -> str:
        """Run a command in the folder; what it prints.

        Raises:
            InputError: it fails, or the phone is gone.
        """
        code, text = self.adb.shell(f"cd {FOLDER} && {command}", doing=doing)
        if code:
            raise self.adb.explain(text, doing)
        return text

    def execute(
        self, program: str, arguments: list[str], *, affinity: str | None, doing: str, seconds: int
    ) -> tuple[int, str]:
        """Run a program of the folder; its exit code and what it printed.

        Its process number lies in the folder while it runs, so that it can be ended.

        Raises:
            InputError: the connection broke or it took too long.
        """
        words = [f"./{program}", *map(shlex.quote, arguments)]
        if affinity is not None:
            words = ["taskset", affinity, *words]
        command = (
            f"cd {FOLDER} && {{ {' '.join(words)} & echo $! >running; wait $!; code=$?; "
            "rm -f running; exit $code; }"
        )
        return self.adb.shell(command, doing=doing, seconds=seconds)

    def make(self) -> None:
        """Make the folder anew; what a killed run left there goes."""
        doing = "making a folder on the phone"
        code, text = self.adb.shell(f"{_TIDY} && mkdir -p {FOLDER}", doing=doing)
        if code:
            raise self.adb.explain(text, doing)

    def remove(self) -> str:
        """End what still runs and remove the folder; "" or, in words, why that failed."""
        try:
            # A cable that slipped is often back in a moment.
            self.adb.run("wait-for-device", doing="tidying up", seconds=_TIDY_SECONDS)
            code, text = self.adb.shell(_TIDY, doing="tidying up", seconds=_TIDY_SECONDS)
        except InputError:
            code, text = 1, ""
        if not code:
            return ""
        said = f" ({text.strip().splitlines()[-1]})" if text.strip() else ""
        return (
            f"{FOLDER} is left on the phone{said}: run this again with the phone connected, or "
            f"adb -s {self.adb.serial} shell rm -rf {FOLDER}"
        )


_TIDY = (
    f"{{ [ ! -f {FOLDER}/running ] || kill -9 $(cat {FOLDER}/running) 2>/dev/null; "
    f"rm -rf {FOLDER}; [ ! -e {FOLDER} ]; }}"
)


@contextlib.contextmanager
def opened(adb: Adb) -> Iterator[RemoteFolder]:
    """The folder on this phone, made anew and removed in every case, after Ctrl-C as well.

    Raises:
        InputError: somebody else measures on this phone, or it cannot be written or tidied.
    """
    with _alone(adb.serial):
        folder = RemoteFolder(adb)
        try:
            folder.make()
            yield folder
        except BaseException as error:
            left = _undisturbed(folder)
            if left and isinstance(error, EgeunetError):
                raise InputError(f"{error}; {left}") from error
            if left and isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(left) from error
            raise
        if left := _undisturbed(folder):
            raise InputError(left)


def died_of(code: int) -> str | None:
    """How a program ended that a signal ended, in words; None = otherwise."""
    return _SIGNALS.get(code)


def _undisturbed(folder: RemoteFolder) -> str:
    """Remove the folder while a second Ctrl-C is not listened to."""
    if threading.current_thread() is not threading.main_thread():
        return folder.remove()
    before: Any = signal.signal(signal.SIGINT, _ignore)
    try:
        return folder.remove()
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore(number: int, frame: FrameType | None) -> None:
    """SIG_IGN would be inherited by adb and its server."""


@contextlib.contextmanager
def _alone(serial: str) -> Iterator[None]:
    """Two runs at once on one phone would spoil each other's times and files."""
    if sys.platform == "win32":  # has no flock; two runs there are the user's to avoid
        yield
        return
    import fcntl

    name = f"egeunet-bench-{os.getuid()}-{re.sub(r'[^0-9A-Za-z]', '_', serial)}.lock"
    path = Path(tempfile.gettempdir()) / name
    with explained(path):
        lock = path.open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another run measures on phone {serial}; wait until it has ended"
            ) from error
        yield
