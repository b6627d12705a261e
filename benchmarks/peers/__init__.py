"""The peers of egeunet-bench: the same weights through other people's tools.

Importing this package registers them with :mod:`egeunet.benchmarks.runtimes`; the tools
themselves are imported when a peer is used (``pip install 'egeunet-mobile[peers]'``).
"""

from egeunet.benchmarks.peers import (
    executorch_peer,
    litert_torch_int8,
    litert_torch_peer,
    mnn_peer,
    ncnn_peer,
    openvino_peer,
    torch_onnx_peer,
)

__all__ = [
    "executorch_peer",
    "litert_torch_int8",
    "litert_torch_peer",
    "mnn_peer",
    "ncnn_peer",
    "openvino_peer",
    "torch_onnx_peer",
]
