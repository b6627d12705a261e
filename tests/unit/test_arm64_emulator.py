"""What is refused before an emulator starts, and how the plug-in's file is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.benchmarks.arm64 import arm64_row_part, arm64_runtime_of
from egeunet.benchmarks.arm64.counts import Mix, read_counts, sum_of
from egeunet.benchmarks.arm64.cpus import CPUS, cpu_named
from egeunet.benchmarks.arm64.emulator import Cut, count_model
from egeunet.model.errors import InputError

_IMAGES = np.zeros((1, 32, 32, 3), np.uint8)


def test_counts_of_a_block_translated_twice_add_up() -> None:
    (interval,) = read_counts("begin\n10 1 2 3 4\n20 0 0 7 0\n10 1 0 0 0\nend 2 0\nexit\n")
    assert interval.parts[0].blocks == {0x10: Mix(2, 2, 3, 4), 0x20: Mix(load_store=7)}
    assert (interval.instructions, interval.threads, interval.others) == (18, 2, 0)
    assert interval.mix == Mix(2, 2, 10, 4)


def test_parts_keep_their_opener_and_blocks_merge() -> None:
    (interval,) = read_counts("begin\n10 0 0 0 1\npart 1f\n10 0 5 0 0\nend 1 0\nexit\n")
    assert [(part.opened_by, part.instructions) for part in interval.parts] == [(0, 1), (0x1F, 5)]
    assert interval.blocks == {0x10: Mix(simd=5, other=1)}


@pytest.mark.parametrize(
    "text", ["", "begin\n10 5 0 0 0\n", "begin\n10 5 0 0 0\nexit\n", "begin\nend 1 0\n"]
)
def test_counts_cut_short_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="too early"):
        read_counts(text)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 10**9)] * 4)))
def test_shares_add_up_to_one(rows: list[tuple[int, int, int, int]]) -> None:
    mix = sum_of(Mix(*row) for row in rows)
    assert mix.total == sum(map(sum, rows))
    assert sum(mix.shares().values()) == pytest.approx(1.0 if mix.total else 0.0)


def test_cut_as_the_plug_in_reads_it() -> None:
    assert Cut().argument() == ""
    assert Cut(0xAB, 0x10, 0x20).argument() == ",split=ab,region=10-20"


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
        ("model.tflite", "run egeunet-bench --setup arm64"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, name: str, message: str) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        count_model(tmp_path / name, tmp_path / "root", cpu_named("cortex-a76"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("m.tflite", {"runtime": "onnxruntime-arm64"}, r"known: litert-arm64 \(\.tflite\)"),
        ("m.safetensors", {}, "no arm64 runtime cannot run it"),
        ("m.tflite", {"cpu": "cortex-x4"}, "unknown core 'cortex-x4'"),
    ],
)
def test_rows_refuse_what_they_cannot_run(
    tmp_path: Path, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        arm64_row_part(tmp_path / name, _IMAGES, root=tmp_path, **options)  # type: ignore[arg-type]


def test_rows_refuse_no_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"N of at least 1, got shape \(0, 32, 32, 3\)"):
        arm64_row_part(tmp_path / "m.tflite", _IMAGES[:0], root=tmp_path)


def test_runtimes_by_suffix() -> None:
    names = [arm64_runtime_of(Path(f"m{suffix}")) for suffix in (".tflite", ".onnx", ".pt")]
    assert names == ["litert-arm64", "onnxruntime-arm64", None]
