"""Weights from disk: our own files come back bit by bit, every bad one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from egeunet.model import EGEUNet, EGEUNetConfig, ModelContract, load_weights, save_weights
from egeunet.model.errors import InputError
from egeunet.model.weights import shipped_weights
from state_dicts import SMALL, State, assert_refused, saved, small_state


@pytest.fixture(scope="module")
def state() -> State:
    return small_state()


def changed(state: State, name: str, value: Tensor | None) -> State:
    rest = {key: tensor for key, tensor in state.items() if key != name}
    return rest if value is None else {**rest, name: value}


NORM = "ebn3.weight"
BAD: dict[str, tuple[Callable[[State], Any], str]] = {
    "another network": (
        lambda _: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).state_dict(),
        "no tensor named encoder1.0.weight",
    ),
    "empty dict": (lambda _: {}, "no tensor named encoder1.0.weight"),
    "no dict": (lambda _: [1, 2], "expected a state dict, got list"),
    "one tensor": (lambda _: torch.zeros(3), "expected a state dict, got Tensor"),
    "missing": (lambda s: changed(s, NORM, None), rf"1 tensors missing \['{NORM}'\], 0 unknown"),
    "unknown": (lambda s: {**s, "head.bias": torch.zeros(1)}, r"1 unknown \['head.bias'\]"),
    "misshapen": (
        lambda s: changed(s, NORM, torch.zeros(5)),
        rf"tensor {NORM} has shape \(5,\), expected \(4,\)",
    ),
    "0-d kernel": (
        lambda s: changed(s, "final.weight", torch.tensor(1.0)),
        r"tensor final.weight has shape \(\), expected four dimensions",
    ),
    "1-d kernel": (
        lambda s: changed(s, "encoder1.0.weight", torch.zeros(4)),
        r"tensor encoder1.0.weight has shape \(4,\), expected four dimensions",
    ),
    "odd width": (
        lambda s: changed(s, "encoder2.0.weight", torch.zeros(7, 4, 3, 3)),
        r"channels must be six positive multiples of 4 up to 4096, got \(4, 7, 4, 8, 8, 8\)",
    ),
    # These say many channels and hold no value: nothing of that size may be made.
    "a huge width": (
        lambda s: changed(s, "encoder6.0.ldw.2.weight", torch.zeros(40 * 10**9, 0, 1, 1)),
        "channels must be six .* up to 4096, got .*40000000000",
    ),
    "many classes": (
        lambda s: changed(s, "final.weight", torch.zeros(4096, 0, 1, 1)),
        r"tensor final.weight has shape \(4096, 0, 1, 1\), expected \(4096, 4, 1, 1\)",
    ),
    "NaN": (
        lambda s: changed(s, NORM, torch.tensor([1, float("nan"), 1, 1])),
        f"tensor {NORM} holds NaN or infinite values",
    ),
    "infinite": (
        lambda s: changed(s, NORM, torch.full((4,), float("-inf"))),
        f"tensor {NORM} holds NaN or infinite values",
    ),
    "too large for float32": (
        lambda s: changed(s, NORM, torch.full((4,), 1e300, dtype=torch.float64)),
        f"tensor {NORM} holds NaN or infinite values",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_state_dicts_are_named(tmp_path: Path, state: State, case: str) -> None:
    make, reason = BAD[case]
    assert_refused(saved(tmp_path / "bad.pth", make(state)), reason)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"a text, renamed\n" * 40, bytes(range(256))])
def test_files_of_another_kind_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    assert_refused(path, "not a readable (safetensors file|checkpoint)")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_cut_files_are_named(tmp_path: Path, state: State, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    model = EGEUNet(SMALL)
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_weights(path, model, ModelContract())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert_refused(path, "not a readable (safetensors file|checkpoint)")


def test_other_suffixes_and_absent_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"x")
    assert_refused(tmp_path / "weights.h5", "expected .safetensors, .pth or .pt, got '.h5'")
    for absent in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(InputError, match=f"weights not found: {absent}$"):
            load_weights(absent)


@pytest.mark.parametrize("config", [EGEUNetConfig(), SMALL], ids=["default", "small"])
def test_round_trip_is_bit_exact(tmp_path: Path, config: EGEUNetConfig) -> None:
    torch.manual_seed(3)
    model = EGEUNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    contract = ModelContract(64, 96, normalization="minmax255", threshold=0.37)
    save_weights(tmp_path / "w.safetensors", model, contract)
    again, contract_again = load_weights(tmp_path / "w.safetensors")
    assert (again.config, contract_again) == (config, contract)
    for name, value in model.state_dict().items():
        other = again.state_dict()[name]
        assert value.dtype == other.dtype and torch.equal(value, other), name
    beside = json.loads((tmp_path / "w.contract.json").read_text())
    assert ModelContract.from_dict(beside) == contract
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.contract.json", "w.safetensors"]


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = EGEUNet(SMALL)
    written = set()
    for index in range(6):
        save_weights(tmp_path / f"{index}.safetensors", model, ModelContract())
        written.add((tmp_path / f"{index}.safetensors").read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"contract": "{"}, "unreadable contract"),
        ({"contract": "[]"}, "unreadable contract.*expected an object"),
        ({"contract": '{"height": 250}'}, "unreadable contract.*missing"),
        ({"contract": json.dumps({**ModelContract().to_dict(), "height": 250})}, "got 250"),
    ],
)
def test_a_bad_contract_is_named(
    tmp_path: Path, state: State, metadata: dict[str, str], reason: str
) -> None:
    from safetensors.torch import save_file

    save_file(state, tmp_path / "w.safetensors", metadata)
    assert_refused(tmp_path / "w.safetensors", reason)


def test_safetensors_without_a_contract_take_the_default(tmp_path: Path, state: State) -> None:
    from safetensors.torch import save_file

    save_file(state, tmp_path / "w.safetensors")
    assert load_weights(tmp_path / "w.safetensors")[1] == ModelContract()


def test_shipped_weights_load_and_segment() -> None:
    path = shipped_weights()
    if not path.is_file():
        pytest.skip(f"SKIPPED LOUDLY: {path} is not shipped yet, so load_weights() is unproved")
    model, contract = load_weights()
    assert model.config == EGEUNetConfig()
    assert not model.training
    assert path.stat().st_size < 300_000
    assert ModelContract.from_dict(json.loads(path.with_suffix(".contract.json").read_text())) == (
        contract
    )
    # A dark disc on skin: the plainest lesion there is.
    y, x = np.mgrid[: contract.height, : contract.width]
    inside = np.hypot(y - contract.height / 2, x - contract.width / 2) < contract.height / 5
    pixels = np.where(inside[..., None], (90, 55, 45), (205, 160, 140)).astype(np.uint8)
    with torch.inference_mode():
        real = torch.from_numpy(contract.normalize(pixels[None])).permute(0, 3, 1, 2)
        probability = model(real).probability[0, 0].numpy()
    assert probability[inside].mean() > 0.5 > probability[~inside].mean()
