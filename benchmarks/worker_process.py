"""The benchmark's end of a worker process: start it, ask it, end it."""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from egeunet.benchmarks.closing import Closing
from egeunet.benchmarks.worker import serve
from egeunet.model.errors import InputError

#: Seconds until an answer counts as never coming. torch.compile takes minutes on small machines.
PATIENCE = 900.0
#: Seconds that a process has to end by itself when its pipe is closed.
_GRACE = 2.0


class WorkerProcess(Closing):
    """One candidate in a process of its own; a context manager.

    Args:
        runtime: name in the registry.
        path: the file.
        threads: for the runtime.
        patience: seconds that one answer may take.
    """

    def __init__(self, runtime: str, path: Path, threads: int, patience: float = PATIENCE) -> None:
        self._what = f"{path.name} in {runtime}"
        self._patience = patience
        self._end: str | None = None  # why there is no process any more
        self._log = tempfile.NamedTemporaryFile(prefix="egeunet-worker-", suffix=".log")  # noqa: SIM115
        context = multiprocessing.get_context("spawn")  # no runtime survives a fork
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, runtime, path, threads, Path(self._log.name)),
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """The result of a method of :class:`egeunet.benchmarks.worker.Session`.

        Raises:
            InputError: the runtime refused, the process died, or no answer came in time.
        """
        self.send(method, *arguments)
        return self.receive()

    def send(self, method: str, *arguments: Any) -> None:
        """Ask without waiting; :meth:`receive` gives the answer."""
        try:
            self._connection.send((method, arguments))
        except OSError:
            raise self._dead() from None

    def receive(self) -> Any:
        """The answer to the oldest :meth:`send`; raises as :meth:`ask` does."""
        try:
            if not self._connection.poll(self._patience):
                self._end = f"no answer in {self._patience:g} s; it was ended"
                self._process.kill()
                raise self._dead()
            good, result = self._connection.recv()
        except (EOFError, OSError):
            raise self._dead() from None
        if not good:
            raise InputError(result)
        return result

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once the process has died or has been ended."""
        return self._end is None

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._end = self._end or "it has been closed"
        self._connection.close()
        self._process.join(_GRACE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._log.close()

    def _dead(self) -> InputError:
        """Why no answer comes; the process is gone or goes now."""
        if self._end is None:
            self._process.join(_GRACE)
            code = self._process.exitcode
            self._end = "the pipe to its process broke"
            if code is not None:
                cause = f"crashed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                cause += "; export the file again, or choose others by --runtime"
                said = Path(self._log.name).read_text(errors="replace").strip().splitlines()
                last = f" ({said[-1][:160]})" if said else ""
                self._end = f"its process {cause}{last}"
        self.close()
        return InputError(f"{self._what}: {self._end}")
