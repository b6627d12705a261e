"""Open a TFLite file and run one image: ``python -m egeunet.export.runners.trial FILE``.

For :mod:`egeunet.export.runners.litert_runner`, which starts it as a process of its
own: exit code 0, or 2 with the reason as the last line of standard error, or
whatever signal the file provokes. Its memory is limited, as a damaged shape may ask
for any amount.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from egeunet.export.runners.litert_runner import LiteRTRunner
from egeunet.model.errors import EgeunetError

#: Far above what an image segmentation network for phones needs.
MEMORY_BYTES = 8 << 30


def main() -> int:
    """Run the trial on the file that the command line names; the exit code."""
    _limit_memory()
    try:
        runner = LiteRTRunner(Path(sys.argv[1]), threads=1, trial=False)
        size = (runner.contract.height, runner.contract.width)
        generator = np.random.default_rng(0)
        runner(generator.integers(0, 256, (1, *size, 3), dtype=np.uint8))
    except EgeunetError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    return 0


def _limit_memory() -> None:
    if sys.platform == "win32":  # has no such limit; a crash there still costs only this process
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    sys.exit(main())
