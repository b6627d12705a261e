"""The bar of a long command that does different things: each step says what it is."""

from __future__ import annotations

import sys

from egeunet.benchmarks.closing import Closing


class Steps(Closing):
    """A progress bar on standard error, only where somebody looks; a context manager.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        from tqdm import tqdm

        silent = quiet or not sys.stderr.isatty()
        form = "{percentage:3.0f}% {bar:20} {elapsed} {desc}"
        self._bar = tqdm(total=0, disable=silent, file=sys.stderr, leave=False, bar_format=form)

    def expect(self, count: int) -> None:
        """So many steps are still to come, besides those expected before."""
        self._bar.total += count
        self._bar.refresh()

    def step(self, what: str) -> None:
        """A step begins; the ones before are done."""
        self._bar.set_description_str(what, refresh=False)
        self._bar.total = max(self._bar.total, self._bar.n + 1)  # some were not foreseen
        self._bar.update()

    def close(self) -> None:
        """The end of the bar."""
        self._bar.close()
