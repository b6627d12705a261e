"""Files that are installed with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

#: What the weights in the package are called, without suffix.
SHIPPED = "egeunet_isic2017"


def shipped_weights() -> Path:
    """Path of the safetensors file that is installed with the package."""
    return Path(str(resources.files("egeunet.model") / "shipped" / f"{SHIPPED}.safetensors"))
