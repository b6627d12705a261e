"""The results table of README.md, made from a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bench_report as made_up
from egeunet.benchmarks.readme_table import BEGIN, END, main, table, with_table
from egeunet.model.errors import InputError

TEXT = f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return made_up.report()


def test_each_file_has_one_row_and_peers_come_last(report: dict[str, Any]) -> None:
    lines = table(report).splitlines()
    files = list(dict.fromkeys(r["file"] for r in report["rows"] if r["threads"] == 1))
    assert len(lines) == 2 + len(files)
    assert lines[2].startswith("| egeunet_isic2017.safetensors | torch | 239,800 | 77.01 |")
    peers = ["(peer)" in line for line in lines[2:]]
    assert peers == sorted(peers) and sum(peers) == 3
    assert "| \\<script\\>alert(1)" in table(report)  # other people's names are escaped


def test_only_what_is_between_the_marks_changes(report: dict[str, Any], tmp_path: Path) -> None:
    text = with_table(TEXT, report)
    assert text == TEXT.replace("old", table(report))
    assert with_table(text, report) == text
    (tmp_path / "r.json").write_text(json.dumps(report))
    (tmp_path / "README.md").write_text(TEXT)
    assert main([str(tmp_path / "r.json"), str(tmp_path / "README.md")]) == 0
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.parametrize("text", ["no marks", f"{END}\n{BEGIN}", BEGIN, TEXT + TEXT])
def test_a_text_without_both_marks_is_refused(report: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match="expected one line '<!-- results: begin"):
        with_table(text, report)
