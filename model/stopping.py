"""Ctrl-C during a long run: stop after the step that is running, with a checkpoint."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType, TracebackType


class StopRequest:
    """While in its ``with`` block, a first Ctrl-C or SIGTERM is a request; a second one stops
    at once, with the checkpoint before.

    Args:
        folder: of the run, for the message.

    Attributes:
        made: whether a stop was asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, False

    def make(self, number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Ask for a stop, as a signal does.

        Raises:
            KeyboardInterrupt: it was asked for before.
        """
        if self.made:
            raise KeyboardInterrupt(f"{self.folder} keeps the checkpoint before, --resume goes on")
        self.made = True

    def stopped(self, step: int) -> KeyboardInterrupt:
        """What to raise once the checkpoint of ``step`` has been written."""
        return KeyboardInterrupt(f"{self.folder} has a checkpoint of step {step}, --resume goes on")

    def __enter__(self) -> StopRequest:
        self._handlers = {
            number: signal.signal(number, self.make) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
