"""What every command does with errors, Ctrl-C and a reader that leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import pytest

from egeunet.model.cli import Parser, command
from egeunet.model.errors import (
    EgeunetError,
    GateError,
    InputError,
    MissingExtraError,
    OutputError,
    needs_extra,
)


def raising(error: BaseException) -> Callable[[Sequence[str] | None], NoReturn]:
    def function(_: Sequence[str] | None) -> NoReturn:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("size must be 32, got 250"), 2, "error: size must be 32, got 250"),
        (OutputError("disk full"), 2, "error: disk full"),
        (GateError("IoU 0.70 < 0.76"), 1, "error: IoU 0.70 < 0.76"),
        (EgeunetError("two\nlines\n  of text "), 2, "error: two lines of text"),
        (KeyboardInterrupt(), 2, "interrupted; nothing half-written is left"),
        (KeyboardInterrupt("--resume goes on"), 2, "interrupted; --resume goes on"),
        (MemoryError(), 2, "error: out of memory; use a smaller batch"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert command("egeunet-x")(raising(error))([]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"egeunet-x: {line}\n"


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command("egeunet-x")(raising(ZeroDivisionError()))([])


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_the_exit_code_is_what_the_function_returns(returned: int | None, code: int) -> None:
    seen: list[Sequence[str] | None] = []

    @command("egeunet-x")
    def main(arguments: Sequence[str] | None) -> int | None:
        """Documented."""
        seen.append(arguments)
        return returned

    assert main(["a"]) == code
    assert main() == code
    assert seen == [["a"], None]
    assert main.__doc__ == "Documented."


@pytest.mark.parametrize(
    "arguments",
    [["--count", "x"], ["--count", "a\nb"], ["--coun", "3"], ["extra\nline"], ["--unknown"]],
)
def test_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    parser = Parser(prog="egeunet-x")
    parser.add_argument("--count", type=int)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("egeunet-x: error: ")
    assert printed.err.endswith("(see egeunet-x --help)\n") and printed.err.count("\n") == 1


def test_help_keeps_the_lines_of_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        Parser(prog="x", epilog="examples:\n  x --a\n  x --b").parse_args(["--help"])
    assert caught.value.code == 0
    assert "examples:\n  x --a\n  x --b" in capsys.readouterr().out


def test_a_missing_extra_names_the_pip_command() -> None:
    with pytest.raises(MissingExtraError) as caught, needs_extra("train"):
        raise ModuleNotFoundError("No module named 'matplotlib.figure'", name="matplotlib.figure")
    assert "matplotlib is not installed" in str(caught.value)
    assert "pip install 'egeunet-mobile[train]'" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_module_of_ours_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("train"):
        raise ModuleNotFoundError("No module named 'egeunet.model.x'", name="egeunet.model.x")


_TALKS = """
import sys
from egeunet.model.cli import command
@command("egeunet-x")
def main(_):
    for _ in range(100_000):
        print("a line of output")
sys.exit(main([]))
"""


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _TALKS], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"a line of output\n"
        process.stdout.close()  # as `| head -1` does
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
