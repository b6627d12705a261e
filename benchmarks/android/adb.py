"""Runs adb, and turns what it complains about into one line that says what to do.

The messages are those of platform-tools' client and server; adb has no other way to
tell its errors apart.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from egeunet.model.errors import InputError

#: Seconds for a command that only asks; the first of all starts adb's server.
ASK_SECONDS = 60
_SDK = ("ANDROID_HOME", "ANDROID_SDK_ROOT")
#: Printed after a command on the phone, as adb passes on no exit code before Android 7 and
#: none at all when the connection breaks.
_MARK = "egeunet-exit:"

#: What adb says, in lower case, and what that means for phone {serial}.
_MEANINGS = (
    ("still authorizing|unauthorized", "phone {serial} has not allowed this computer to debug: "
     "unlock it, accept 'Allow USB debugging?' and run this again"),
    ("no permissions", "this computer may not open the USB port of phone {serial}: install udev "
     "rules (apt-get install android-sdk-platform-tools-common) and plug it in again"),
    ("no space left", "the storage of phone {serial} is full: free some space on it"),
    ("read-only file system|permission denied", "phone {serial} refuses to write there"),
    ("more than one device", "more than one phone is connected: choose by --serial"),
    ("no devices/emulators|device '.*' not found|device not found|device .*disconnected",
     "phone {serial} is gone: plug it in again and run this again"),
    ("offline", "phone {serial} is offline: unlock it, plug it in again, or run adb reconnect"),
    ("cannot connect to daemon|failed to start daemon|could not install",
     "adb's server does not start: run adb kill-server and try again"),
    ("copy response|protocol fault|connection reset|error: closed",
     "phone {serial} broke off: check the cable and run this again"),
)  # fmt: skip
#: Those after which the phone is still there.
_STAYS = ("no space left", "read-only file system|permission denied")


class ConnectionLost(InputError):
    """The phone cannot be reached any more."""


@dataclass(frozen=True)
class Adb:
    """The adb program, for one phone where ``serial`` is given."""

    program: str
    serial: str = ""

    def run(self, *arguments: str, doing: str, seconds: int = ASK_SECONDS) -> str:
        """Run ``adb [-s SERIAL] ARGUMENTS``; its standard output, without carriage returns.

        Args:
            doing: what for, in words, for the message of an error.
            seconds: how long it may take.

        Raises:
            ConnectionLost: adb cannot reach the phone.
            InputError: adb failed in another way, or took too long.
        """
        done = self._run(arguments, doing, seconds)
        if done.returncode:
            raise self.explain(done.stderr + "\n" + done.stdout, doing)
        return done.stdout

    def shell(self, command: str, *, doing: str, seconds: int = ASK_SECONDS) -> tuple[int, str]:
        """Run a command line on the phone; its exit code, and both its outputs as text.

        Raises:
            ConnectionLost: the connection ended before the command did.
            InputError: it took too long, or adb failed in another way.
        """
        line = f"( {command} ) 2>&1 </dev/null; echo {_MARK}$?"
        done = self._run(("shell", line), doing, seconds)
        text, mark, code = done.stdout.rpartition(_MARK)
        if mark and code.strip().isdecimal():
            return int(code), text
        said = done.stderr.strip()
        if said:
            raise self.explain(said, doing)
        raise ConnectionLost(f"phone {self.serial} broke off while {doing}; check the cable")

    def explain(self, message: str, doing: str) -> InputError:
        """An error of ours for a message of adb's."""
        lines = [line.strip() for line in message.splitlines()]
        # Not news of the server's start, not a progress bar, not the count of files pushed.
        ignored = r"\* |\[ *\d+%\]|.* file pushed|.* files? pushed|adb server version"
        lines = [line for line in lines if line and not re.match(ignored, line)]
        text = " ".join(lines).lower()
        for said, meaning in _MEANINGS:
            if re.search(said, text):
                kind = InputError if said in _STAYS else ConnectionLost
                return kind(f"{meaning.format(serial=self.serial)} (while {doing})")
        first = lines[0][:200] if lines else "no message"
        return InputError(f"adb failed while {doing}: {first}")

    def _run(
        self, arguments: tuple[str, ...], doing: str, seconds: int
    ) -> subprocess.CompletedProcess[str]:
        command = [self.program, *(("-s", self.serial) if self.serial else ()), *arguments]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
                # Ctrl-C is for us: the phone must still be tidied by another adb.
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            who = f"phone {self.serial}" if self.serial else "adb"
            raise ConnectionLost(
                f"{who} had not ended after {seconds} s of {doing}; plug it in again"
            ) from error
        except OSError as error:
            raise InputError(f"{self.program} cannot be run ({error.strerror})") from error
        out, err = (
            stream.decode(errors="replace").replace("\r", "")
            for stream in (done.stdout, done.stderr)
        )
        return subprocess.CompletedProcess(command, done.returncode, out, err)


def find_adb() -> str | None:
    """adb on PATH, or in the Android SDK that the environment names; None = neither."""
    found = shutil.which("adb")
    if found:
        return found
    for name in _SDK:
        folder = os.environ.get(name)
        program = Path(folder or "") / "platform-tools" / "adb"
        if folder and program.is_file():
            return str(program)
    return None
