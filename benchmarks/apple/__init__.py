"""Core ML packages on a Mac, timed by coremltools' own MLModelBenchmarker.

    python -m egeunet.benchmarks.apple.cli_mac build/egeunet_float16.mlpackage --json mac.json

Nothing of this has been run on a Mac yet (docs/phones.md).
"""

from egeunet.benchmarks.apple.mac_report import MacOptions, mac_report, problem

__all__ = ["MacOptions", "mac_report", "problem"]
