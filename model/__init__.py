"""The reference network, its weights and its data.

Names are imported on first use, so that the contract, metrics and data loader
work where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from egeunet.model.config import EGEUNetConfig
from egeunet.model.contract import ModelContract
from egeunet.model.errors import needs_extra

if TYPE_CHECKING:
    from egeunet.model.egeunet import EGEUNet, EGEUNetOutput
    from egeunet.model.weights import load_weights, save_weights

_LAZY = {
    "EGEUNet": "egeunet.model.egeunet",
    "EGEUNetOutput": "egeunet.model.egeunet",
    "load_weights": "egeunet.model.weights",
    "save_weights": "egeunet.model.weights",
}

__all__ = [
    "EGEUNet",
    "EGEUNetConfig",
    "EGEUNetOutput",
    "ModelContract",
    "load_weights",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra("torch"):
        return getattr(import_module(_LAZY[name]), name)
