"""The table of ablations: trained for real (tiny, synthetic), kept, and read as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from egeunet.benchmarks.ablation_study import variants
from egeunet.benchmarks.ablations import main, noise, page
from egeunet.model.ablations import ABLATIONS
from egeunet.model.errors import InputError

#: One worker runs all: the study is made once.
pytestmark = pytest.mark.xdist_group("ablations")

HOW = ("--epochs", "1", "--size", "32", "--batch", "16", "--threads", "1", "--no-compile",
       "--quiet", "--only", "full", "no-mask")  # fmt: skip


def study(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "egeunet.benchmarks.ablations", *HOW]
    command += ["--work", str(folder / "work"), "--out", str(folder / "page.md")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=300,
        check=False, env=env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of three variants; what a test changes it puts back."""
    folder = tmp_path_factory.mktemp("study")
    done = study(folder)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "full seed 0", "full seed 1", "no-mask seed 0"
    ]  # fmt: skip
    return folder


def test_the_report_holds_what_was_trained(finished: Path) -> None:
    from egeunet.model import load_weights
    from egeunet.model.ablations import ablated

    report = json.loads((finished / "page.json").read_text())
    rows = report["rows"]
    assert [(r["name"], r["seed"]) for r in rows] == [("full", 0), ("full", 1), ("no-mask", 0)]
    assert [r["parameters"] for r in rows] == [53_374, 53_374, 52_582]
    assert [r["multiply_accumulates"] // 1000 for r in rows] == [72_096, 72_096, 70_380]
    assert len({r["weights_sha256"] for r in rows}) == 3
    for row in rows:
        folder = finished / "work" / f"{row['name']}-seed{row['seed']}"
        model, contract = load_weights(folder / "weights.safetensors")
        assert model.config == ablated(row["name"]) and contract.height == 32
        assert row["steps"] == 2 and 0 <= row["validation_iou"] <= 1
        assert row["test"]["images"] == report["data"]["test"] == 32
    tests = [100 * r["test"]["iou"] for r in rows[:2]]
    assert report["noise"]["test"] == pytest.approx(abs(tests[0] - tests[1]))


def test_the_page_says_where_its_figures_come_from(finished: Path) -> None:
    report = json.loads((finished / "page.json").read_text())
    text = (finished / "page.md").read_text()
    assert text == page(report)
    assert "Synthetic pictures: this says nothing about real ones" in text
    assert str(finished) not in text, "a path of this machine"
    assert "python -m egeunet.benchmarks.ablations --epochs 1 --size 32" in text
    for row in report["rows"]:
        assert re.search(
            rf"\| {row['name']} \| {row['seed']} \|.*\| {100 * row['test']['iou']:.2f} \|", text
        )


def test_finished_variants_are_kept_and_others_trained(finished: Path) -> None:
    lost, kept = (finished / "work" / f"full-seed{seed}" for seed in (1, 0))
    before = (finished / "page.json").read_bytes()
    row = (lost / "row.json").read_bytes()
    (lost / "row.json").unlink()  # as if stopped before it was scored
    stamp = (kept / "weights.safetensors").stat().st_mtime_ns
    done = study(finished)
    assert done.returncode == 0, done.stderr
    assert (kept / "weights.safetensors").stat().st_mtime_ns == stamp
    assert (lost / "row.json").read_bytes() == row, "resumed to another end"
    assert (finished / "page.json").read_bytes() == before


def refused(capsys: pytest.CaptureFixture[str], reason: str, *arguments: object) -> None:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    printed = capsys.readouterr().err
    assert re.search(reason, printed) and printed.count("\n") == 1, printed


def test_bad_arguments_are_one_line(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "no ablation 'ghpa'; there are full", "--only", "ghpa")
    refused(capsys, "multiple of 32, got 100", "--size", 100)
    refused(capsys, "epochs >= 1", "--epochs", 0)
    refused(capsys, "--threads must be 1 or more, got 0", "--threads", 0)
    refused(capsys, "--out must end in .md", "--out", tmp_path / "page.txt")
    (tmp_path / "file").write_bytes(b"")
    refused(capsys, "cannot write", "--out", tmp_path / "file" / "page.md")
    here = ("--work", finished / "work", "--out", tmp_path / "page.md", *HOW)
    refused(capsys, "is of another schedule or other data; remove", *here, "--batch", 8)
    empty = ("--data", tmp_path / "nothing", "--out", tmp_path / "page.md")
    refused(capsys, "nothing", *empty)
    row = finished / "work" / "full-seed0" / "row.json"
    before = row.read_bytes()
    for damaged in (b"{", b"[1]"):
        row.write_bytes(damaged)
        refused(capsys, "full-seed0/row.json: .*; remove it", *here)
    row.write_bytes(before)


def test_the_full_network_is_trained_twice_and_each_ablation_once() -> None:
    rows = [(v.name, v.seed) for v in variants()]
    assert rows == [("full", 0), ("full", 1), *((n, 0) for n in ABLATIONS if n != "full")]
    assert len({v.folder for v in variants()}) == len(rows)
    with pytest.raises(InputError, match="no ablation 'x'"):
        variants(["full", "x"])


def row(name: str, seed: int, validation: float, test: float) -> dict[str, Any]:
    return {"name": name, "what": "x", "seed": seed, "parameters": 1000, "test": {"iou": test},
            "multiply_accumulates": 72_096_256, "validation_iou": validation}  # fmt: skip


def report(rows: list[dict[str, Any]], planned: int = 3) -> dict[str, Any]:
    data = {"name": "d", "split": "test", "training": 5, "validation": 2, "test": 3}
    return {"command": "c", "data": data, "size": 32, "epochs": 1, "batch": 4, "planned": planned,
            "rows": rows, "noise": noise(rows)}  # fmt: skip


def test_the_page_reads_the_table_aloud() -> None:
    full = [row("full", 0, 0.80, 0.75), row("full", 1, 0.81, 0.77)]
    below = page(report([*full, row("no-mask", 0, 0.79, 0.765)]))
    assert "differ by 1.00 points on the validation part and 2.00 on the test images" in below
    assert "no other row is above the better of them" in below and "Unfinished" not in below
    assert "| no-mask | 0 | x | 1,000 | 72.1 | 79.00 | 76.50 | +0.50 |" in below
    above = page(report([*full, row("no-mask", 0, 0.79, 0.78)], planned=4))
    assert "above both of them: no-mask." in above and "Unfinished: 3 of 4 rows." in above
    alone = page(report([row("no-mask", 0, 0.79, 0.78)], planned=1))
    assert "The noise is not known" in alone and "| 78.00 | - |" in alone
