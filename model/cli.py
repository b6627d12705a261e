"""What every command shares: one-line errors, exit codes, Ctrl-C."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from egeunet.model.errors import EgeunetError

Main = Callable[[Sequence[str] | None], int]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit with 2."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {_one_line(message)} (see {self.prog} --help)\n")


def command(name: str) -> Callable[[Callable[[Sequence[str] | None], int | None]], Main]:
    """Turn a function into a console entry point called ``name``.

    It returns the exit code: what the function returned (None = 0), 1 for a failed
    gate, 2 for a bad input or an interrupt, with one line on standard error.
    """

    def decorate(function: Callable[[Sequence[str] | None], int | None]) -> Main:
        @functools.wraps(function)
        def main(arguments: Sequence[str] | None = None) -> int:
            try:
                return function(arguments) or 0
            except EgeunetError as error:
                print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
                return error.exit_code
            except KeyboardInterrupt as stop:  # whoever can be gone on with says how
                how = _one_line(stop) or "nothing half-written is left"
                print(f"{name}: interrupted; {how}", file=sys.stderr)
                return 2
            except BrokenPipeError:  # the reader of our output left, as `| head` does
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            except MemoryError:
                print(f"{name}: error: out of memory; use a smaller batch", file=sys.stderr)
                return 2

        return main

    return decorate


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
