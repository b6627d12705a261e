"""ONNX Runtime, imported without its telemetry.

Its wheels report usage to their maker and keep a device id in the user's cache unless
they are told not to before the import. A kit for health apps does not do that.
"""

from __future__ import annotations

import os
from typing import Any

from egeunet.model.errors import needs_extra


def onnxruntime() -> Any:
    """The module ``onnxruntime``.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with needs_extra("onnx"):
        import onnxruntime as module
    return module
