"""egeunet-train --ablation: another network by one flag, kept apart from the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from egeunet.model import EGEUNetConfig, load_weights
from egeunet.model.ablations import ABLATIONS, ablated
from egeunet.model.checkpoint import TrainingState
from egeunet.model.cli_train import main

TINY = ("--stages", "32x1x32", "--no-compile", "--quiet", "--device", "cpu")
Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, reason: str, *arguments: object) -> None:
    capsys.readouterr()
    assert main([*map(str, arguments), *TINY]) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("egeunet-train: ")]
    assert len(lines) == 1 and reason in lines[0], lines


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "full"])
def test_one_flag_trains_it(name: str, tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--ablation", name, *TINY]) == 0
    model, _ = load_weights(tmp_path / "weights.safetensors")
    assert model.config == ablated(name) != EGEUNetConfig()
    assert TrainingState.load(tmp_path).recipe["network"] == ablated(name).to_dict()


def test_a_run_is_not_resumed_with_another_network(tmp_path: Path, capsys: Capture) -> None:
    out = ("--out", tmp_path / "run")
    assert main([*map(str, out), "--ablation", "no-dilation", *TINY]) == 0
    # Both have tensors of the same names and shapes as the full network: only the record differs.
    refused(capsys, "its checkpoint is of another network", *out, "--resume")
    weights = tmp_path / "run" / "weights.safetensors"
    other = ("--out", tmp_path / "other", "--init", weights)
    refused(
        capsys, "its network is another one than --ablation names", *other, "--ablation", "full"
    )
    assert main([*map(str, other), *TINY]) == 0
    assert load_weights(tmp_path / "other" / "weights.safetensors")[0].config == ablated(
        "no-dilation"
    )


def test_a_checkpoint_older_than_the_record_is_of_the_papers_network(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), *TINY]) == 0
    state = TrainingState.load(tmp_path)
    assert state.recipe.pop("network") == EGEUNetConfig().to_dict()
    state.save(tmp_path)
    assert main(["--out", str(tmp_path), "--resume", *TINY]) == 0


def test_unknown_names_are_named(tmp_path: Path, capsys: Capture) -> None:
    out = ("--out", tmp_path / "run")
    refused(capsys, "no ablation 'ghpa'; there are full, depthwise,", *out, "--ablation", "ghpa")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "reason"),
    [("cuda", "has no cuda device; use cpu"), ("tpu", "device must be one of auto, cpu, cuda")],
)
def test_a_device_that_is_not_there_is_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, device: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "run"), "--device", device]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
