"""Latency and masks on an Android phone, by adb and LiteRT's ``benchmark_model``.

    rows = android_rows([Path("build/egeunet_int8.tflite")], (ids, images), AndroidOptions())

Nothing of this has been run on a phone yet: it is tested against a stand-in for adb
that follows adb's documented behaviour (docs/phones.md).
"""

from egeunet.benchmarks.android.options import AndroidOptions, add_arguments, options_from
from egeunet.benchmarks.android.rows import RUNTIMES, android_rows, problem

__all__ = [
    "RUNTIMES",
    "AndroidOptions",
    "add_arguments",
    "android_rows",
    "options_from",
    "problem",
]
