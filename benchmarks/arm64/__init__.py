"""64-bit Arm builds of the runtimes under QEMU: their masks, and exact instruction counts.

Emulated: instructions, not time; caches, pipelines and clock are not modelled.
"""

from egeunet.benchmarks.arm64.cpus import CPUS, DEFAULT_CPU
from egeunet.benchmarks.arm64.installation import default_root, problem, setup
from egeunet.benchmarks.arm64.row import ARM64_RUNTIMES, arm64_row_part, arm64_runtime_of

__all__ = [
    "ARM64_RUNTIMES",
    "CPUS",
    "DEFAULT_CPU",
    "arm64_row_part",
    "arm64_runtime_of",
    "default_root",
    "problem",
    "setup",
]
