"""The errors that end a command, each in one line and with its exit code.

A message says what went wrong, where, the value seen and what to do. Anything
that is not an :class:`EgeunetError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EgeunetError(Exception):
    """Base class. ``exit_code`` is what the process returns when it ends a command."""

    exit_code = 2


class InputError(EgeunetError):
    """An argument, a file or a data set that cannot be used as it is (exit code 2)."""


class OutputError(EgeunetError):
    """A result that cannot be written: read-only folder, full disk, path taken (exit code 2)."""


class GateError(EgeunetError):
    """A measured value misses its gate (exit code 1)."""

    exit_code = 1


class MissingExtraError(EgeunetError):
    """A package of an optional extra is absent; the message names the pip command (exit code 2)."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; it belongs to the extra [{extra}]: "
            f"run pip install 'egeunet-mobile[{extra}]'"
        )


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of an optional package: its absence becomes a :class:`MissingExtraError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or "a package"
        if name.startswith("egeunet"):  # a defect of ours, not a missing extra
            raise
        raise MissingExtraError(name.partition(".")[0], extra) from error
