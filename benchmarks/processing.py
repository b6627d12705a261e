"""What an app does around the network, timed apart from it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from egeunet.benchmarks.latency import Plan
from egeunet.model.contract import ModelContract
from egeunet.model.data.resize import resize_image
from egeunet.model.data.synthetic import synthetic_sample

#: Side in pixels of the (synthetic) photo that is prepared and masked.
PHOTO_SIDE = 1024
_SEED = 7


def time_processing(contract: ModelContract, plan: Plan) -> dict[str, dict[str, float]]:
    """Times around one inference, one thread, Pillow and NumPy.

    Returns:
        ``preprocess_ms``: a 1024 x 1024 photo to the network's input, resized and
        normalized; ``postprocess_ms``: its probability to a mask of the photo's size, as
        egeunet-predict does it. Each with ``median_ms``, ``p90_ms``, ``min_ms`` and ``runs``.
    """
    photo, _ = synthetic_sample(0, PHOTO_SIDE, _SEED)
    height, width = contract.height, contract.width
    probability = np.random.default_rng(_SEED).random((height, width), np.float32)

    def before() -> object:
        return contract.normalize(resize_image(photo, height, width)[None])

    def after() -> object:
        size = (PHOTO_SIDE, PHOTO_SIDE)
        larger = Image.fromarray(probability).resize(size, Image.Resampling.BILINEAR)
        return np.asarray(larger) >= contract.threshold

    runs = plan.turn_runs * plan.blocks
    return {"preprocess_ms": _time(before, runs), "postprocess_ms": _time(after, runs)}


def _time(function: Callable[[], object], runs: int) -> dict[str, float]:
    function()
    samples = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        samples.append(1000 * (time.perf_counter() - start))
    p50, p90 = np.percentile(samples, (50, 90))
    return {"median_ms": float(p50), "p90_ms": float(p90), "min_ms": min(samples), "runs": runs}
