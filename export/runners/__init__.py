"""Runners hide runtimes: pixels in, probability out, whatever the file's format.

    runner = open_runner("build/egeunet_int8.tflite")
    probability = runner(image_nhwc)  # uint8 (N, H, W, 3) -> float32 (N, H, W, 1)

Normalization, layout changes and (de)quantization live here and nowhere else.
"""

from egeunet.export.runners import (
    coreml_runner,
    litert_runner,
    onnx_runner,
    torch_runner,
)
from egeunet.export.runners.runner import CONTRACT_KEY, Runner, known_suffixes, open_runner

__all__ = [
    "CONTRACT_KEY",
    "Runner",
    "coreml_runner",
    "known_suffixes",
    "litert_runner",
    "onnx_runner",
    "open_runner",
    "torch_runner",
]
