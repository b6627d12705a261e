"""The state of a run on disk: comes back as it was, and every bad file is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from egeunet.model.checkpoint import FILE_NAME, TrainingState
from egeunet.model.errors import InputError, OutputError


def state() -> TrainingState:
    """With optimizer tensors as AdamW keeps them."""
    parameter = torch.nn.Parameter(torch.arange(4.0))
    optimizer = torch.optim.AdamW([parameter], lr=1e-3)
    parameter.sum().backward()
    optimizer.step()
    weights = {"w": torch.tensor([1.0, 1e-40, -0.0, float("inf")])}
    return TrainingState(
        recipe={"seed": 3, "stages": [{"size": 64}]},
        data_fingerprint="abc",
        step=7,
        model=weights,
        averaged={"w": torch.zeros(4)},
        optimizer=optimizer.state_dict(),
        best={"w": torch.ones(4)},
        best_iou=0.123456789012345,
        log=[{"step": 6, "loss": 0.1}],
        epoch_losses=[0.1, 1 / 3],
    )


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    before = state()
    before.save(tmp_path / "run")
    after = TrainingState.load(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE_NAME]
    for name in ("recipe", "data_fingerprint", "step", "best_iou", "log", "epoch_losses"):
        assert getattr(after, name) == getattr(before, name), name
    for name in ("model", "averaged", "best"):
        old, new = getattr(before, name)["w"], getattr(after, name)["w"]
        assert old.view(torch.int32).equal(new.view(torch.int32)), name
    assert after.optimizer["param_groups"] == before.optimizer["param_groups"]
    for key, value in before.optimizer["state"][0].items():
        assert torch.equal(after.optimizer["state"][0][key], value), key


def test_a_checkpoint_from_before_the_losses_were_kept_still_loads(tmp_path: Path) -> None:
    state().save(tmp_path)
    values = torch.load(tmp_path / FILE_NAME, weights_only=True)
    del values["epoch_losses"]
    torch.save(values, tmp_path / FILE_NAME)
    assert TrainingState.load(tmp_path).epoch_losses == []


def test_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"nothing to resume: {tmp_path / FILE_NAME}"):
        TrainingState.load(tmp_path)


def changed(**values: Any) -> dict[str, Any]:
    whole = {"version": 1, **vars(state()), "recipe": "{}", "log": "[]"}
    return {key: value for key, value in {**whole, **values}.items() if value is not ...}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a readable training checkpoint"),
        (b"text\n" * 100, "is not a readable training checkpoint"),
        ([1, 2], "is not a readable training checkpoint"),
        ({"w": torch.zeros(2)}, "is not a readable training checkpoint"),
        (changed(version=2), "was written by another version of egeunet-train"),
        (changed(step=...), "is not a readable training checkpoint"),
        (changed(more=1), "is not a readable training checkpoint"),
        (changed(log="["), "is not a readable training checkpoint"),
        (changed(recipe=3), "is not a readable training checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / FILE_NAME
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=reason) as caught:
        TrainingState.load(tmp_path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_cut_checkpoint_is_named(tmp_path: Path, share: float) -> None:
    state().save(tmp_path)
    data = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="remove it to start anew"):
        TrainingState.load(tmp_path)


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch.save(changed(best=_Code(tmp_path / "proof")), tmp_path / FILE_NAME)
    with pytest.raises(InputError, match="is not a readable training checkpoint"):
        TrainingState.load(tmp_path)
    assert not (tmp_path / "proof").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"a file")
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        state().save(tmp_path / "run")
