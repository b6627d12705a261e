"""Other people's tools, told not to call home. A kit for health apps does not do that."""

from __future__ import annotations

import os
import sys
from typing import Any

#: Of ONNX Runtime; of the Hugging Face packages that litert-torch brings; of whoever heeds it.
_SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def no_telemetry() -> None:
    """Switch off in this process what the peers' packages would send; call it before them.

    OpenVINO's converter reports each conversion to Google Analytics, with the user's consent
    taken for granted, unless its package for that cannot be imported: so it cannot.
    """
    for switch in _SWITCHES:
        os.environ[switch] = "1"
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
