"""Which file is measured in which runtime on how many threads, and what is left out and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from egeunet.benchmarks.own_runtimes import COMPILED, REFERENCE
from egeunet.benchmarks.runtimes import Peer, Runtime, find_runtime, known_runtimes
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class Candidate:
    """One row of the report to be.

    Attributes:
        path: the file.
        file: its name in the report; with its folder's where two files share a name.
        runtime: what runs it.
        threads: on how many.
    """

    path: Path
    file: str
    runtime: Runtime
    threads: int

    @property
    def id(self) -> str:
        """Unique in a report."""
        return f"{self.file}|{self.runtime.name}|{self.threads}"


@dataclass(frozen=True)
class Skip:
    """A runtime, or a file in a runtime, that is not measured; the reason in one line."""

    runtime: str
    file: str | None
    reason: str


@dataclass(frozen=True)
class Choice:
    """What the user asked for.

    Attributes:
        weights: the reference.
        files: what is measured beside it.
        named: the files were named, so that only they are measured.
        runtimes: names; empty = all that are installed.
        threads: thread counts.
        conversions: folder of the peers' files.
        quick: peers only where their conversion is there already, no torch.compile.

    Raises:
        InputError: no thread count, one below 1, or an unknown runtime.
    """

    weights: Path
    files: tuple[Path, ...]
    named: bool
    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    conversions: Path = Path("build/peers")
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.threads or min(self.threads) < 1:
            raise InputError(f"threads must be positive integers, got {list(self.threads)}")
        if len(set(self.threads)) < len(self.threads):
            raise InputError(f"thread counts must differ, got {list(self.threads)}")
        for name in self.runtimes:
            find_runtime(name)

    def candidates(
        self, step: Callable[[str], None] = lambda what: None
    ) -> tuple[list[Candidate], list[Skip]]:
        """The candidates, the reference first, and what is left out.

        Args:
            step: told what is being converted.

        Raises:
            InputError: torch is missing, a named runtime cannot run here, or no runtime
                takes a named file.
        """
        reference = find_runtime(REFERENCE)
        if problem := reference.problem():
            raise InputError(f"the reference needs torch: {problem}")
        names = _file_names([self.weights, *self.files])
        chosen = [(self.weights, reference)]
        skipped: list[Skip] = []
        for runtime in tuple(map(find_runtime, self.runtimes)) or known_runtimes():
            problem = runtime.problem()
            if problem and self.runtimes:
                raise InputError(f"runtime {runtime.name}: {problem}")
            files, left_out = ([], []) if problem else self._files_of(runtime, step)
            if problem:
                left_out = [Skip(runtime.name, None, problem)]
            skipped += left_out
            chosen += [(path, runtime) for path in files if (path, runtime) not in chosen]
        for path in self.files if self.named else ():
            if not any(each == path for each, _ in chosen):
                raise InputError(self._nobody(path))
        result = []
        for path, runtime in chosen:
            file = names.get(path, path.name)
            threads = self.threads if runtime.timed else self.threads[:1]
            result += [Candidate(path, file, runtime, count) for count in threads]
        return result, skipped

    def _files_of(
        self, runtime: Runtime, step: Callable[[str], None]
    ) -> tuple[list[Path], list[Skip]]:
        asked = not self.named or runtime.name in self.runtimes
        if isinstance(runtime, Peer):
            return self._converted(runtime, step) if asked else ([], [])
        files = [path for path in self.files if path != self.weights and runtime.accepts(path)]
        if runtime.accepts(self.weights) and asked:
            if self.quick and runtime.name == COMPILED and not self.runtimes:
                return files, [Skip(COMPILED, None, "--quick: it takes minutes to compile")]
            files.insert(0, self.weights)
        return files, []

    def _converted(self, peer: Peer, step: Callable[[str], None]) -> tuple[list[Path], list[Skip]]:
        step(f"conversion by {peer.name}")
        try:
            if not self.quick:
                return [peer.prepare(self.weights, self.conversions)], []
            found = peer.cached(self.weights, self.conversions)
        except InputError as error:
            return [], [Skip(peer.name, None, str(error))]
        if found is not None:
            return [found], []
        reason = "not converted yet, and --quick converts nothing; run once without it"
        return [], [Skip(peer.name, None, reason)]

    def _nobody(self, path: Path) -> str:
        takers = [each for each in known_runtimes() if not each.peer and each.accepts(path)]
        if not takers:
            return f"{path}: no runtime takes {path.suffix or 'a file without suffix'!r}"
        if self.runtimes:
            return f"{path}: no runtime of {', '.join(self.runtimes)} takes it"
        reasons = "; ".join(f"{each.name}: {each.problem()}" for each in takers)
        return f"{path}: no runtime for it here ({reasons})"


def _file_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each path, short where that is unique."""
    names = [path.name for path in paths]
    return {path: path.name if names.count(path.name) == 1 else path.as_posix() for path in paths}
