"""``make weights``: each step is a command that exists, on what the steps before have made."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from egeunet.model import cli_train
from egeunet.model.recipe import RECIPES
from egeunet.quantize import cli_quantize
from egeunet.quantize.finetune_plan import PLANS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="SKIPPED LOUDLY: no make")


def dry_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--dry-run", "--always-make", "weights", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_steps_follow_one_another() -> None:
    printed = dry_run("DATA=ISIC2017", "W=build/none").stdout.splitlines()
    steps = [shlex.split(line) for line in printed if "/egeunet-" in line]
    assert len(steps) == 6
    made: set[Path] = set()
    for program, *arguments in steps:
        if program.endswith("egeunet-train"):
            options = cli_train.parser().parse_args(arguments)
            assert options.recipe in RECIPES
            needed, result = options.init, options.out / "weights.safetensors"
        else:
            options = cli_quantize.parser().parse_args(arguments)
            assert options.plan in PLANS
            needed, result = options.weights, options.out
            if PLANS[options.plan].mutual:
                made.add(result.with_suffix(".weights.safetensors"))
        assert needed is None if not made else needed in made, needed
        made.add(result)
        assert options.data == Path("ISIC2017") and not options.resume


def test_what_was_stopped_goes_on(tmp_path: Path) -> None:
    for folder in ("four/phase1", "five.run"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "checkpoint.pt").touch()
    printed = dry_run("DATA=ISIC2017", f"W={tmp_path}").stdout.splitlines()
    assert ["--resume" in line for line in printed if "/egeunet-" in line] == 2 * [True] + 4 * [
        False
    ]


def test_no_data() -> None:
    run = dry_run("W=build/none")
    assert run.returncode and "give the images: make weights DATA=ISIC2017" in run.stderr
