"""Processes of one run: who takes what, on which device, and that two compute what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.model.distributed import World, choose_device, joined
from egeunet.model.errors import InputError

TORCHRUN = Path(sys.executable).parent / "torchrun"


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9))
def test_slices_are_equal_and_make_up_the_batch(size: int, length: int) -> None:
    batch = list(range(size * length))
    parts = [batch[World(rank, size).share(len(batch))] for rank in range(size)]
    assert {len(part) for part in parts} == {length}
    assert [image for part in parts for image in part] == batch


@pytest.mark.parametrize(("count", "size"), [(3, 2), (8, 3), (1, 4)])
def test_an_unequal_share_is_refused(count: int, size: int) -> None:
    with pytest.raises(InputError, match=f"batch of {count} cannot .* by {size} processes; .*"):
        World(0, size).share(count)


def test_alone_nothing_is_wrapped_and_nobody_is_asked() -> None:
    model = torch.nn.Linear(2, 2)
    with joined("cpu", {}) as world:
        assert world == World()
        assert world.main and world.replicated(model) is model
        assert world.agree(0.25, True) == (0.25, True)
        world.wait()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"RANK": "two", "WORLD_SIZE": "2"}, "RANK must be a whole number, got 'two'"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number, got ''"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "got 2 of 2; use torchrun"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "got -1 of 2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "got 0 of 0"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE is 2, MASTER_ADDR is not set"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "door"},
            "process 0 of 2 cannot reach the others at localhost:door",
        ),
    ],
)
def test_variables_that_make_no_sense_are_named(variables: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught, joined("cpu", variables):
        pytest.fail("joined")
    assert "\n" not in str(caught.value)


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int, apple: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)


@pytest.mark.parametrize(
    ("gpus", "apple", "asked", "processes", "device"),
    [
        (0, False, "auto", 1, "cpu"),
        (2, False, "auto", 1, "cuda:0"),
        (2, False, "auto", 2, "cuda:1"),
        (2, False, "cpu", 2, "cpu"),
        (0, True, "auto", 1, "mps"),
        (0, True, "mps", 1, "mps"),
        (0, True, "auto", 2, "cpu"),
    ],
)
def test_the_last_process_gets_the_best_device_there_is(
    monkeypatch: pytest.MonkeyPatch, gpus: int, apple: bool, asked: str, processes: int, device: str
) -> None:
    machine(monkeypatch, gpus, apple)
    chosen = choose_device(asked, processes - 1, processes, alone=processes == 1)
    assert chosen == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "apple", "asked", "processes", "reason"),
    [
        (0, False, "cuda", 1, "has no cuda device; use cpu"),
        (1, False, "mps", 1, "has no mps device; use cpu"),
        (0, True, "mps", 2, "an Apple GPU takes one process"),
        (2, False, "auto", 3, "3 processes on a machine with 2 GPUs; .* --nproc-per-node 2"),
        (1, False, "tpu", 1, "device must be one of auto, cpu, cuda, mps, got 'tpu'"),
    ],
)
def test_a_device_that_cannot_be_had_is_named(
    monkeypatch: pytest.MonkeyPatch, gpus: int, apple: bool, asked: str, processes: int, reason: str
) -> None:
    machine(monkeypatch, gpus, apple)
    with pytest.raises(InputError, match=reason):
        choose_device(asked, processes - 1, processes, alone=processes == 1)


#: Each process starts from other weights, takes its slice of one batch and one step back.
_GRADIENTS = """
import sys, torch
from egeunet.model import EGEUNet
from egeunet.model.distributed import joined
from egeunet.model.losses import deep_supervision_loss
with joined("cpu") as world:
    torch.manual_seed(world.rank)
    model = EGEUNet().to(memory_format=torch.channels_last)
    replica = world.replicated(model)
    generator = torch.Generator().manual_seed(5)
    images, masks = (torch.rand(4, c, 32, 32, generator=generator) for c in (3, 1))
    mine = world.share(4)
    loss = deep_supervision_loss(replica(images[mine]), masks[mine])
    loss.backward()
    mean, stop = world.agree(loss.item(), world.rank == world.size - 1)
    assert stop and world.agree(float(world.rank), False) == ((world.size - 1) / 2, False)
    world.wait()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    torch.save((mean, found), f"{sys.argv[1]}/{world.size}-{world.rank}.pt")
"""
#: The last process fails, or dies, while the first waits for it.
_FAILS = """
import os, signal, sys
from egeunet.model.cli import command
from egeunet.model.distributed import SaidElsewhere, joined
from egeunet.model.errors import InputError
@command("trial")
def main(arguments=None):
    try:
        with joined("cpu") as world:
            world.wait()
            if not world.main:
                if sys.argv[1] == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise InputError("the second has no data")
            world.wait()
            print("went on")
    except SaidElsewhere:
        return 2
sys.exit(main())
"""


def torchrun(path: Path, code: str, processes: int, *arguments: object) -> str:
    """Run ``code`` in so many processes; what they and torchrun printed, after success."""
    path.write_text(code)
    command = [TORCHRUN, "--standalone", f"--nproc-per-node={processes}", path, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False, env=env
    )
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def test_two_processes_find_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        printed = torchrun(tmp_path / "trial.py", _GRADIENTS, processes, tmp_path)
        assert printed.startswith("0\n"), printed
    alone, *both = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert both[0][0] == both[1][0] == pytest.approx(alone[0], rel=1e-5)
    for name, wanted in alone[1].items():
        assert torch.equal(both[0][1][name], both[1][1][name]), f"{name} differs between the two"
        difference = (both[0][1][name] - wanted).norm() / wanted.norm().clamp(min=1e-6)
        assert difference <= 1e-3, f"{name}: relative difference {difference:.2g}"


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("fails", "trial: error: the second has no data"),
        ("killed", "trial: error: process 0 of 2 lost another one, which was killed or cannot"),
    ],
)
def test_one_failing_process_ends_all_with_one_line(tmp_path: Path, how: str, line: str) -> None:
    printed = torchrun(tmp_path / "trial.py", _FAILS, 2, how)
    ours = [text for text in printed.splitlines() if text.startswith("trial: ")]
    assert len(ours) == 1 and ours[0].startswith(line), printed
    assert not printed.startswith("0\n") and "went on" not in printed
