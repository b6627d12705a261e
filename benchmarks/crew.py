"""The worker processes of all candidates: opened together, ended together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from egeunet.benchmarks.candidates import Candidate, Skip
from egeunet.benchmarks.closing import Closing
from egeunet.benchmarks.worker import Opened
from egeunet.benchmarks.worker_process import WorkerProcess
from egeunet.model.errors import InputError

#: Opening a file again for each block of turns must not take longer than this, in ms.
_QUICKLY = 2000.0


class Crew(Closing):
    """A process for each candidate that could be opened; a context manager.

    Args:
        candidates: the first is the reference.
        step: told what is being opened.

    Attributes:
        workers, opened: by candidate.
        skipped: those that could not be opened.

    Raises:
        InputError: the reference or a file of ours cannot be opened, or a file has another
            input size than the reference.
    """

    def __init__(
        self, candidates: Sequence[Candidate], step: Callable[[str], None] = lambda what: None
    ) -> None:
        self.workers: dict[str, WorkerProcess] = {}
        self.opened: dict[str, Opened] = {}
        self.candidates: dict[str, Candidate] = {}
        self.skipped: list[Skip] = []
        self._weights = candidates[0].path
        try:
            for candidate in candidates:
                step(f"starting {candidate.runtime.name}")
                worker = WorkerProcess(candidate.runtime.name, candidate.path, candidate.threads)
                self.workers[candidate.id], self.candidates[candidate.id] = worker, candidate
            self._all("prepare", step)
            self._all("open", step)
            self._check_sizes()
        except BaseException:
            self.close()
            raise

    @property
    def reference(self) -> str:
        """Id of the reference."""
        return next(iter(self.candidates))

    @property
    def timed(self) -> dict[str, WorkerProcess]:
        """The workers whose speed means something."""
        return {id: w for id, w in self.workers.items() if self.candidates[id].runtime.timed}

    @property
    def slow_to_open(self) -> frozenset[str]:
        """Ids of those that are better kept open."""
        return frozenset(
            id for id, each in self.opened.items() if each.load_ms + each.first_ms > _QUICKLY
        )

    def drop(self, id: str, reason: str) -> None:
        """A candidate is good for nothing: it becomes a line of what was skipped."""
        candidate = self.candidates.pop(id)
        self.opened.pop(id, None)
        self.workers.pop(id).close()
        self.skipped.append(Skip(candidate.runtime.name, candidate.file, reason))

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()

    def _all(self, method: str, step: Callable[[str], None]) -> None:
        """Ask all; what imports can be done side by side, opening is timed and is not."""
        together = method == "prepare"
        for worker in self.workers.values() if together else ():
            with suppress(InputError):  # it has died: receive() says of what
                worker.send(method)
        for id, candidate in list(self.candidates.items()):
            step(f"opening {candidate.file} in {candidate.runtime.name}")
            worker = self.workers[id]
            try:
                opened = worker.receive() if together else worker.ask(method)
            except InputError as error:
                # A peer, or the compiler of torch, may fail; the reference and files of ours
                # must not.
                ours = not candidate.runtime.peer and candidate.path != self._weights
                if ours or id == self.reference:
                    raise
                self.drop(id, str(error))
                continue
            if not together:
                self.opened[id] = opened

    def _check_sizes(self) -> None:
        want = self.opened[self.reference].contract
        for id, opened in self.opened.items():
            have = opened.contract
            if (have.height, have.width) != (want.height, want.width):
                raise InputError(
                    f"{self.candidates[id].path}: takes {have.height}x{have.width} images and the "
                    f"reference {want.height}x{want.width}; compare models of one input size"
                )
