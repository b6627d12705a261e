"""litert-torch's file in 8 bits by ai-edge-quantizer: dynamic (weights only) and static."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package, contract_beside
from egeunet.benchmarks.peers.litert_torch_peer import LiteRTSession, LiteRTTorch
from egeunet.benchmarks.runtimes import runtime
from egeunet.model.contract import ModelContract

#: Images that the static form is calibrated on, and their seed (not that of the benchmark's own).
_IMAGES = 16
_SEED = 1


class _Quantized(ConvertedPeer):
    """A recipe of ai-edge-quantizer applied to :class:`LiteRTTorch`'s file."""

    precision = "int8"
    suffix = ".tflite"
    packages = (*LiteRTTorch.packages, Package("ai_edge_quantizer", "ai-edge-quantizer"))
    starts_from = LiteRTTorch
    recipe: str

    def convert(self, source: Path, out: Path) -> ModelContract:
        from ai_edge_quantizer import quantizer, recipe

        contract = contract_beside(source)
        work = quantizer.Quantizer(str(source), getattr(recipe, self.recipe)())
        ranges = None
        if work.need_calibration:
            ranges = work.calibrate({"serving_default": list(_pictures(contract))}, num_threads=1)
        work.quantize(ranges).export_model(str(out))
        return contract

    def session(self, path: Path, threads: int) -> LiteRTSession:
        return LiteRTSession(path, threads)


@runtime
class DynamicInt8(_Quantized):
    """Weights in int8, activations quantized while it runs where a kernel can."""

    name = "litert-torch-dynamic-int8"
    note: str | None = "weights in int8, input and output float32"
    recipe = "dynamic_wi8_afp32"


@runtime
class StaticInt8(_Quantized):
    """Weights and activations in int8, all operators that the recipe takes."""

    name = "litert-torch-static-int8"
    note: str | None = f"calibrated on {_IMAGES} synthetic images"
    recipe = "static_wi8_ai8"


def _pictures(contract: ModelContract) -> Iterator[dict[str, Any]]:
    """Synthetic pictures as the file's signature takes them: (1, 3, H, W) float32."""
    from egeunet.model.data.resize import resize_image
    from egeunet.model.data.synthetic import synthetic_sample

    height, width = contract.height, contract.width
    for index in range(_IMAGES):
        image, _ = synthetic_sample(index, max(height, width), _SEED)
        real = contract.normalize(resize_image(image, height, width)[None])  # (1, H, W, 3)
        yield {"args_0": np.ascontiguousarray(real.transpose(0, 3, 1, 2))}
