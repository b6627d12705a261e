"""What is measured on a phone and how often; the flags of the commands."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from egeunet.benchmarks.android.delegates import DELEGATES
from egeunet.model.errors import InputError


@dataclass(frozen=True)
class AndroidOptions:
    """How to measure on a phone.

    Attributes:
        serial: which phone, as ``adb devices`` lists it; None = the only one.
        benchmark_model: LiteRT's tool, built for the phone; None = found in the cache.
        delegates: some of ``cpu``, ``gpu``, ``nnapi``.
        threads: thread counts of the CPU; accelerators are measured once, with the first.
        runs, warmup: timed and untimed inferences, at least (the tool also wants a second).
        images: of the images given, how many are run on the phone to compare masks.
        affinity: mask of the cores to run on, hexadecimal, as ``taskset`` takes it.
        seconds: how long one command on the phone may take.

    Raises:
        InputError: a value outside those sets.
    """

    serial: str | None = None
    benchmark_model: Path | None = None
    delegates: tuple[str, ...] = tuple(DELEGATES)
    threads: tuple[int, ...] = (1, 2, 4)
    runs: int = 50
    warmup: int = 5
    images: int = 20
    affinity: str | None = None
    seconds: int = 300

    def __post_init__(self) -> None:
        unknown = [name for name in self.delegates if name not in DELEGATES]
        if unknown or not self.delegates:
            raise InputError(
                f"delegates must be some of {', '.join(DELEGATES)}, got {list(self.delegates)}"
            )
        if not self.threads or any(count < 1 for count in self.threads):
            raise InputError(f"thread counts must be positive, got {list(self.threads)}")
        for name in ("delegates", "threads"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise InputError(f"{name} must differ from one another, got {list(values)}")
        for name, least in (("runs", 1), ("warmup", 1), ("images", 0), ("seconds", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.affinity is not None and not re.fullmatch(r"[0-9a-fA-F]{1,8}", self.affinity):
            raise InputError(
                f"affinity must be a hexadecimal mask of cores such as f0, got {self.affinity!r}"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a phone, for whichever command measures on one."""
    default = AndroidOptions()
    group = parser.add_argument_group("Android phone")
    group.add_argument("--serial", metavar="S", help="which phone (default: the only one)")
    group.add_argument(
        "--benchmark-model", metavar="F", type=Path, help="LiteRT's benchmark_model for the phone"
    )
    group.add_argument(
        "--delegates", metavar="D", nargs="+", default=list(default.delegates),
        help=f"some of {', '.join(DELEGATES)} (default: all)",
    )  # fmt: skip
    group.add_argument(
        "--phone-threads", metavar="N", nargs="+", type=int, default=list(default.threads),
        help="thread counts on the CPU (default: 1 2 4)",
    )  # fmt: skip
    group.add_argument(
        "--phone-images", metavar="N", type=int, default=default.images,
        help=f"images whose masks are compared (default: {default.images}; 0 = none)",
    )  # fmt: skip
    group.add_argument("--affinity", metavar="MASK", help="cores to run on, hexadecimal")


def options_from(arguments: argparse.Namespace, *, runs: int) -> AndroidOptions:
    """The options that :func:`add_arguments` parsed.

    Raises:
        InputError: as :class:`AndroidOptions`.
    """
    return AndroidOptions(
        serial=arguments.serial,
        benchmark_model=arguments.benchmark_model,
        delegates=tuple(arguments.delegates),
        threads=tuple(arguments.phone_threads),
        images=arguments.phone_images,
        affinity=arguments.affinity,
        runs=runs,
    )
