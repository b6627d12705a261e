"""The public code's checkpoints load as they are, and code in them is never run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract, load_weights
from state_dicts import SMALL, State, assert_refused, saved, small_state


@pytest.fixture(scope="module")
def state() -> State:
    return small_state()


def assert_loads(path: Path, state: State) -> None:
    model, contract = load_weights(path)
    assert not model.training
    assert model.config == SMALL
    assert contract == ModelContract(normalization="minmax255")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def as_latest(state: State) -> dict[str, Any]:
    """The public code's latest.pth: its losses are NumPy scalars (np.mean of a list)."""
    parameters = [nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    parameters[0].sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-5)
    return {
        "epoch": 300,
        "min_loss": np.mean([0.5, 0.25]),
        "min_epoch": 291,
        "loss": np.float32(0.5),
        "model_state_dict": state,
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
    }


def with_counters(state: State) -> State:
    """As after its FLOP tool, thop, has registered buffers in every module."""
    extra = {"total_ops": torch.zeros(1, dtype=torch.float64), "total_params": torch.zeros(1)}
    modules = sorted({name.rpartition(".")[0] for name in state})
    return {**state, **extra, **{f"{m}.{k}": v for m in modules for k, v in extra.items()}}


FORMS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "latest.pth": as_latest,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "thop": with_counters,
    "all at once": lambda state: {
        "model_state_dict": {f"module.{n}": v for n, v in with_counters(state).items()}
    },
    "float64": lambda state: {name: value.double() for name, value in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_public_checkpoints_load_as_they_are(
    tmp_path: Path, state: State, form: str, suffix: str
) -> None:
    assert_loads(saved(tmp_path / f"best{suffix}", FORMS[form](state)), state)


def test_a_checkpoint_in_the_format_of_old_torch_loads(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "best.pth", _use_new_zipfile_serialization=False)
    assert_loads(tmp_path / "best.pth", state)


def test_numpy_scalars_of_either_numpy_load(tmp_path: Path, state: State) -> None:
    # NumPy 1 calls the module numpy.core, NumPy 2 numpy._core; the pickle is otherwise equal.
    path = tmp_path / "latest.pth"
    torch.save(as_latest(state), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    new, old = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    assert data.count(new) == 1
    path.write_bytes(data.replace(new, old))
    assert_loads(path, state)


@pytest.mark.parametrize("bridge", [True, False])
@pytest.mark.parametrize("sides", [True, False])
@pytest.mark.parametrize(("classes", "inputs"), [(1, 3), (3, 1)])
def test_the_architecture_is_read_from_the_tensors(
    classes: int, inputs: int, bridge: bool, sides: bool
) -> None:
    config = EGEUNetConfig(classes, inputs, (4, 8, 4, 8, 8, 12), bridge, sides)
    assert EGEUNet.from_public_state_dict(EGEUNet(config).state_dict()).config == config


class _Code:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, state: State, zipped: bool) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.pth"
    value = {"model_state_dict": state, "epoch": _Code(proof)}
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    assert_refused(path, r"it names code, \w+\.open, that is never run")
    assert not proof.exists()
    # The same bytes do act where a loader trusts them, so the file above proves something.
    os.close(torch.load(path, weights_only=False)["epoch"])
    assert proof.exists()


def test_code_beside_numpy_scalars_is_not_run_either(tmp_path: Path, state: State) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.pth"
    assert_refused(saved(path, {**as_latest(state), "x": _Code(proof)}), "that is never run")
    assert not proof.exists()
