"""Weights on disk: safetensors beside a contract, and the public code's checkpoints.

Nothing here executes what a file says: safetensors, or ``torch.load`` with
``weights_only=True``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egeunet.model.atomic import write_bytes
from egeunet.model.config import EGEUNetConfig
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.packaged import shipped_weights

#: The architecture's key beside the contract's own in the metadata: GAB's dilations do not show
#: in any tensor. Files without it are older, and the paper's network in this respect.
_NETWORK = "network"
_WRAPPERS = ("model_state_dict", "state_dict", "model")


def load_weights(path: str | Path | None = None) -> tuple[EGEUNet, ModelContract]:
    """Load a network and the contract its weights were trained under.

    Args:
        path: ``.safetensors`` written by :func:`save_weights`, or a ``.pth`` / ``.pt``
            of the public code (its contract is then ``minmax255``); None = shipped.

    Returns:
        The network in eval mode on the CPU, and its contract.

    Raises:
        InputError: unreadable file, weights of another network, NaN or infinite values.
    """
    path = shipped_weights() if path is None else Path(path)
    if not path.is_file():
        raise InputError(f"weights not found: {path}")
    config = None
    if path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
        contract, config = _described(metadata, path)
    elif path.suffix in (".pth", ".pt"):
        state, contract = _read_checkpoint(path), ModelContract(normalization="minmax255")
    else:
        raise InputError(f"{path}: expected .safetensors, .pth or .pt, got {path.suffix!r}")
    try:
        model = model_from_state(state, config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return model, contract


def save_weights(path: str | Path, model: EGEUNet, contract: ModelContract) -> None:
    """Write ``path`` (.safetensors) with contract and architecture inside, and the contract
    once more as readable JSON beside it. Both appear whole or not at all; equal weights give
    equal bytes.
    """
    from safetensors.torch import save

    path = Path(path)
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    # One entry: safetensors writes several in an order that changes from run to run.
    values = {**contract.to_dict(), _NETWORK: model.config.to_dict()}
    metadata = {"contract": json.dumps(values)}
    write_bytes(path, save(state, metadata))
    text = json.dumps(contract.to_dict(), indent=2) + "\n"
    write_bytes(path.with_suffix(".contract.json"), text.encode())


def model_from_state(state: Mapping[str, Any], config: EGEUNetConfig | None = None) -> EGEUNet:
    """Build an eval-mode network.

    Args:
        state: names and tensors, in a wrapper or not.
        config: the architecture; None = what names and shapes say.

    Raises:
        InputError: tensors missing, unknown, misshapen, or with NaN or infinite values.
    """
    tensors = _clean(state)
    config = config or _config_of(tensors)
    with torch.device("meta"):  # no memory is asked for before all shapes are known to agree
        expected = EGEUNet(config).state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise InputError(
            f"not EGE-UNet weights: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}"
        )
    for name, want in expected.items():
        if tensors[name].shape != want.shape:
            raise InputError(
                f"tensor {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {tuple(want.shape)}"
            )
        if not torch.isfinite(tensors[name]).all():
            raise InputError(f"tensor {name} holds NaN or infinite values; weights are broken")
    model = EGEUNet(config)
    model.load_state_dict(tensors)
    return model.eval()


def _config_of(tensors: dict[str, Tensor]) -> EGEUNetConfig:
    """The architecture that these tensors belong to."""
    attention = _attention_of(tensors)
    deep = "0.weight" if attention == "convolution" else "0.ldw.2.weight"
    names = [f"encoder{i}.0.weight" for i in (1, 2, 3)]
    names += [f"encoder{i}.{deep}" for i in (4, 5, 6)]
    absent = [name for name in [*names, "final.weight"] if name not in tensors]
    if absent:
        raise InputError(f"not EGE-UNet weights: no tensor named {absent[0]}")
    for name in [*names, "final.weight"]:
        if tensors[name].ndim != 4:
            raise InputError(
                f"not EGE-UNet weights: tensor {name} has shape {tuple(tensors[name].shape)}, "
                "expected four dimensions"
            )
    channels = tuple(tensors[name].shape[0] for name in names)
    sides = "gt_conv1.0.weight" in tensors
    # One channel of each group is the mask's, if there is one.
    group = tensors.get("GAB1.g0.0.weight")
    plain = group is not None and tuple(group.shape) == (channels[0] // 2,)
    return EGEUNetConfig(
        num_classes=tensors["final.weight"].shape[0],
        input_channels=tensors[names[0]].shape[1],
        channels=channels,
        bridge="GAB1.pre_project.weight" in tensors,
        deep_supervision=sides,
        attention=attention,
        bridge_mask=not (sides and plain),
    )


def _attention_of(tensors: dict[str, Tensor]) -> str:
    """Which block the deep stages are, by names that only one kind has."""
    if "encoder4.0.weight" in tensors:
        return "convolution"
    bare = "encoder4.0.ldw.2.weight" in tensors and not any(".params_" in name for name in tensors)
    return "depthwise" if bare else "ghpa"


def _clean(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Unwrap, strip ``module.`` and drop the FLOP counter's buffers."""
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and not re.search(r"(^|\.)total_(ops|params)$", str(name)):
            tensors[str(name).removeprefix("module.")] = value.float()
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def _described(metadata: dict[str, str], path: Path) -> tuple[ModelContract, EGEUNetConfig | None]:
    """What a file says of itself: its contract, and its architecture unless it is older."""
    if "contract" not in metadata:
        return ModelContract(), None
    try:
        values = json.loads(metadata["contract"])
        network = values.pop(_NETWORK, None) if isinstance(values, dict) else None
        contract = ModelContract.from_dict(values)
        return contract, None if network is None else EGEUNetConfig.from_dict(network)
    except (json.JSONDecodeError, InputError) as error:
        raise InputError(f"{path}: unreadable contract in its metadata ({error})") from error


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes provoke
        # Its own text advises to run what the file says; ours does not.
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = (
            f"it names code, {code[1]}, that is never run; save model.state_dict() alone"
            if code
            else f"{type(error).__name__}; cut short, or another kind of file"
        )
        raise InputError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: expected a state dict, got {type(state).__name__}")
    return state


def _numpy_scalars() -> list[Any]:
    """What makes a NumPy float: the public code's latest.pth keeps its losses as such."""
    make = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    floats = (type(np.dtype(np.float32)), type(np.dtype(np.float64)))
    return [*((make, name) for name in names), np.dtype, *floats]
