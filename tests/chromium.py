"""Debian's Chromium without a window, driven by the DevTools protocol over a pair of pipes.

Messages are JSON, each ended by a zero byte, written to the browser's file descriptor 3 and
read from its 4 (``--remote-debugging-pipe``): no port, no web socket, no driver program.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from egeunet.benchmarks.closing import Closing

NAMES = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT = 60.0
#: Puts the pipes where the browser looks for them, and becomes the browser.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str | None:
    """The browser's program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _pipe() -> tuple[int, int]:
    """A pipe's two ends, away from the numbers 3 and 4, which the browser gets."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


class Chromium(Closing):
    """One browser with one page; a context manager.

    Attributes:
        events: everything that the browser told of without being asked, in order.
    """

    def __init__(self, program: str, profile: Path) -> None:
        read_end, self._to_browser = _pipe()
        self._from_browser, write_end = _pipe()
        self.events: list[dict[str, Any]] = []
        self._log = profile / "stderr.txt"
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
            "about:blank",
        ]  # fmt: skip
        start = [sys.executable, "-c", _START, str(read_end), str(write_end), *command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                start,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(read_end, write_end),
            )
        os.close(read_end)
        os.close(write_end)

    def __enter__(self) -> Chromium:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def close(self) -> None:
        """End the browser."""
        os.close(self._to_browser)  # the browser ends when its pipe does
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from_browser)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise AssertionError(self._obituary()) from None
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file into a window of that size (CSS pixels) and wait until it is drawn."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", **metrics, mobile=width < 500)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release Enter or Tab, as a keyboard does."""
        codes = {"Enter": (13, "\r"), "Tab": (9, "")}
        code, text = codes[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self) -> bytes:
        """PNG of the whole page, beyond the window too."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(picture["data"])

    def complaints(self) -> list[str]:
        """Script errors, log entries (a blocked resource is one) and console output so far."""
        methods = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [json.dumps(e["params"]) for e in self.events if e.get("method") in methods]

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def _obituary(self) -> str:
        self._process.wait(timeout=15)
        said = self._log.read_text(errors="replace")[-2000:]
        return f"the browser ended with {self._process.returncode}: {said}"

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _TIMEOUT
        while b"\0" not in self._buffer:
            ready = select.select([self._from_browser], [], [], max(0.0, end - time.monotonic()))
            assert ready[0], f"the browser said nothing for {_TIMEOUT:.0f} s"
            more = os.read(self._from_browser, 1 << 20)
            assert more, self._obituary()
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer
