"""Ctrl-C during a long run: stop after the step that is running, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class StopRequest:
    """While :meth:`listening`, a first Ctrl-C or SIGTERM is a request; a second one stops at
    once, with the checkpoint before.

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

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While in this block a signal is a request."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.make) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
