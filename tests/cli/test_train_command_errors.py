"""egeunet-train with arguments and data that cannot be used: one line each, exit code 2."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from egeunet.model.cli_train import main
from egeunet.model.data.synthetic_files import write_synthetic

NAME = "egeunet-train"
RECIPE = ("--stages", "32x4x4", "64x1x4", "--hold-out", "4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and masks/ of 12 synthetic pictures, 64 x 64."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(folder, 12, 64)
    return folder


def assert_one_line(stderr: str, reason: str) -> None:
    assert "Traceback" not in stderr
    ours = [line for line in stderr.splitlines() if line.startswith(f"{NAME}: ")]
    assert len(ours) == 1 and stderr.endswith(f"{ours[0]}\n"), stderr
    assert reason in ours[0]


def refused(capsys: pytest.CaptureFixture[str], reason: str, *arguments: object) -> None:
    """In this process: the start of torch would cost more than the test."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--no-compile", "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert_one_line(printed.err, reason)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--stages", "250x1x1"], "stage size must be a multiple of 32, got 250"),
        (["--stages", "-64x1x1"], "expected at least one argument"),
        (["--stages", "64x1"], "a stage is SIZExEPOCHSxBATCH, got '64x1'"),
        (["--stages", "3200000x1x1"], "3200000"),
        (["--learning-rate", "nan"], "learning_rate, ema and warmup must lie in 0..1, got nan"),
        (["--learning-rate", "fast"], "invalid float value: 'fast'"),
        (["--ema", "1.5"], "learning_rate, ema and warmup must lie in 0..1"),
        (["--seed", "-1"], "seed must be >= 0, got -1"),
        (["--threads", "0"], "--threads must be 1 or more, got 0"),
        (["--hold-out", "1"], "cannot hold out every 1th of 12 pictures"),
        (["--hold-out", "13"], "cannot hold out every 13th of 12 pictures"),
        (["--data", "nowhere"], "nowhere"),
        (["--split-csv", "nowhere.csv"], "nowhere.csv"),
        (["--recipe", "best"], "no recipe 'best'; known: isic2017"),
        (["--recipe", "isic2017", "--seed", "1"], "--recipe fixes what --seed would change"),
        (["--init", "nowhere.safetensors", "--hold-out", "4"], "nowhere.safetensors"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_bad_arguments_are_one_line(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    given = ["--data", str(data), "--out", str(tmp_path / "run"), *arguments, "--no-compile"]
    try:
        code = main(given)
    except SystemExit as stop:  # from argparse
        code = stop.code
    assert code == 2
    assert_one_line(capsys.readouterr().err, reason)
    assert not (tmp_path / "run").exists()


def test_an_output_path_that_is_a_file_is_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_bytes(b"mine")
    given = ("--data", data, "--out", tmp_path / "run", *RECIPE)
    refused(capsys, "a part of the path is a file, not a folder", *given)
    assert (tmp_path / "run").read_bytes() == b"mine"


@pytest.mark.parametrize("package", ["torch", "matplotlib"])
def test_a_missing_extra_shows_before_anything_is_done(tmp_path: Path, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\n"
    code += "from egeunet.model.cli_train import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    reason = f"{package} is not installed; it belongs to the extra [train]: run pip install"
    assert_one_line(done.stderr, reason)
    assert not (tmp_path / "run").exists()


def test_a_broken_picture_is_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    path = sorted((broken / "images").iterdir())[3]
    path.write_bytes(path.read_bytes()[:200])
    refused(capsys, path.name, "--data", broken, "--out", tmp_path / "run", *RECIPE)
    assert not (tmp_path / "run").exists()


def test_a_missing_mask_is_named(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "data"
    shutil.copytree(data, partial)
    path = sorted((partial / "masks").iterdir())[3]
    path.unlink()
    refused(capsys, path.stem, "--data", partial, "--out", tmp_path / "run", *RECIPE)
