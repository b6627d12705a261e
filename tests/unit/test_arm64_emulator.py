"""What is refused before an emulator starts, and how the plug-in's file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from egeunet.benchmarks.arm64.cpus import CPUS, cpu_named
from egeunet.benchmarks.arm64.emulator import read_counts, run_model
from egeunet.model.errors import InputError


def test_counts_of_a_block_translated_twice_add_up() -> None:
    (interval,) = read_counts("begin\n10 5\n20 7\n10 1\nend 2 0\nexit\n")
    assert interval.parts == [{0x10: 6, 0x20: 7}]
    assert (interval.instructions, interval.threads, interval.others) == (13, 2, 0)


@pytest.mark.parametrize("text", ["", "begin\n10 5\n", "begin\n10 5\nexit\n", "begin\nend 1 0\n"])
def test_counts_cut_short_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="too early"):
        read_counts(text)


def test_unknown_core_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="'max'; known: cortex-a76, neoverse-n1"):
        cpu_named("max")


def test_cpuinfo_names_the_core() -> None:
    text = cpu_named("cortex-a53").cpuinfo()
    assert "CPU part\t: 0xd03\n" in text and "asimddp" not in text
    assert [name for name, cpu in CPUS.items() if "asimddp" in cpu.features] == [
        "cortex-a76",
        "neoverse-n1",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "expected .tflite or .onnx, got '.pt'"),
        ("absent.tflite", "model not found"),
        ("model.tflite", "is not ready for counting"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, name: str, message: str) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        run_model(tmp_path / name, tmp_path / "root", cpu_named("cortex-a76"))
