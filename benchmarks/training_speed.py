"""Images per second of the training step: ``python -m egeunet.benchmarks.training_speed``.

The step is the one of egeunet-train (forward, loss, backward, clipping, AdamW, averaging)
with its augmentation, on synthetic pictures; compilation is not counted.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from egeunet.export.provenance import environment
from egeunet.model.cli import Parser, command

_WARMUP = 3


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="training_speed", description=__doc__)
    p.add_argument("--size", type=int, default=256, help="side in pixels (default: 256)")
    p.add_argument("--batch", type=int, default=8, help="images a step (default: 8)")
    p.add_argument("--steps", type=int, default=30, help="timed steps (default: 30)")
    p.add_argument("--threads", type=int, help="default: all cores")
    p.add_argument("--no-compile", action="store_true", help="do not use torch.compile")
    return p


@command("training_speed")
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print one line of JSON."""
    options = parser().parse_args(arguments)
    import torch

    from egeunet.model.data.synthetic import synthetic_dataset
    from egeunet.model.pictures import Pictures
    from egeunet.model.recipe import Recipe, Stage
    from egeunet.model.training import Trainer

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    data = synthetic_dataset(options.batch, options.size, seed=0)
    pictures = Pictures.from_arrays(data.images, data.masks)
    total = _WARMUP + options.steps
    recipe = Recipe(stages=(Stage(options.size, total, options.batch),), validate_every=total)
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            recipe, pictures, pictures, Path(folder), compiled=not options.no_compile,
            progress=False, on_step=lambda: stamps.append(time.perf_counter()),
        )  # fmt: skip
        trainer.run()
    times = [after - before for before, after in pairwise(stamps)][_WARMUP:]
    median = statistics.median(times)
    result = {
        "images_per_second": options.batch / median,
        "median_step_seconds": median,
        "compiled": not options.no_compile,
        "size": options.size,
        "batch": options.batch,
        "threads": torch.get_num_threads(),
        "steps_seconds": times,
        "environment": environment(),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(None))
