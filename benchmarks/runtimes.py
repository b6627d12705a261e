"""The runtimes that egeunet-bench knows: how each opens a file, and why it cannot run here.

Ours are in :mod:`egeunet.benchmarks.own_runtimes`; the peers (other people's converters of
the same weights) in :mod:`egeunet.benchmarks.peers`. Both register by the decorator.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from egeunet.export.runners import Runner
from egeunet.model.errors import InputError


class Runtime(Protocol):
    """One way to run a model file.

    Attributes:
        name: as reports show it ("torch", "litert-xnnpack", "ncnn", ...).
        peer: its files are made from the same weights by other people's tools.
        timed: False where only the results mean something (an interpreter of ours).
        note: what a reader of its rows must know, None if nothing.
    """

    name: str
    peer: bool
    timed: bool
    note: str | None

    def problem(self) -> str | None:
        """Why it cannot run here, in one line; None = it can. Imports nothing heavy."""
        ...

    def accepts(self, path: Path) -> bool:
        """Whether this runtime runs a file of that suffix; a peer: of what it prepared."""
        ...

    def open(self, path: Path, threads: int) -> Runner:
        """Open a file on ``threads`` CPU threads; called in a worker process only.

        Raises:
            InputError: the file cannot be run.
        """
        ...


@runtime_checkable
class Peer(Runtime, Protocol):
    """A runtime whose file another tool makes from the weights.

    Attributes:
        precision: of what it computes.
    """

    precision: str

    def cached(self, weights: Path, folder: Path) -> Path | None:
        """What :meth:`prepare` made of these weights earlier, None if it has to be made."""
        ...

    def prepare(self, weights: Path, folder: Path) -> Path:
        """Convert the weights, or find the conversion made earlier (by the weights' sha256).

        Args:
            weights: .safetensors or checkpoint of the public code.
            folder: where conversions are kept.

        Returns:
            The converted file.

        Raises:
            InputError: the tool fails, in one line.
        """
        ...


_RUNTIMES: dict[str, Runtime] = {}
#: Packages whose import registers runtimes, in the order of reports.
_REGISTERING = ("egeunet.benchmarks.own_runtimes", "egeunet.benchmarks.peers")
_Class = TypeVar("_Class", bound=type[Runtime])


def runtime(cls: _Class) -> _Class:
    """Class decorator: register one instance (made without arguments) under its name."""
    instance = cls()
    if instance.name in _RUNTIMES:
        raise ValueError(f"two runtimes are called {instance.name!r}")
    _RUNTIMES[instance.name] = instance
    return cls


def known_runtimes() -> tuple[Runtime, ...]:
    """All registered runtimes: ours first, then the peers."""
    for module in _REGISTERING:
        import_module(module)
    return tuple(sorted(_RUNTIMES.values(), key=lambda each: each.peer))


def find_runtime(name: str) -> Runtime:
    """The runtime called ``name``.

    Raises:
        InputError: unknown; the known ones are listed.
    """
    known = {each.name: each for each in known_runtimes()}
    if name not in known:
        raise InputError(f"unknown runtime {name!r}; known: {', '.join(known)}")
    return known[name]


def missing_package(package: str, extra: str) -> str | None:
    """The line that :meth:`Runtime.problem` gives where a package is absent, else None."""
    if find_spec(package) is not None:
        return None
    return f"{package} is not installed; pip install 'egeunet-mobile[{extra}]'"
