"""Rows of the bench's report, measured on a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from egeunet.benchmarks.android.adb import Adb, find_adb
from egeunet.benchmarks.android.benchmark_tool import anything_cached, cache_folder, find_tool
from egeunet.benchmarks.android.delegates import DELEGATES
from egeunet.benchmarks.android.device_masks import TOOL
from egeunet.benchmarks.android.file_rows import FileOnPhone, Images
from egeunet.benchmarks.android.options import AndroidOptions
from egeunet.benchmarks.android.phone import choose, facts
from egeunet.benchmarks.android.remote_folder import opened
from egeunet.benchmarks.progress import say
from egeunet.model.errors import InputError

#: Names of these rows' runtimes.
RUNTIMES = tuple(f"android-{name}" for name in DELEGATES)
_ADB = "adb is not on PATH: install Android's platform-tools (apt-get install adb)"


def problem(options: AndroidOptions | None = None) -> str | None:
    """One line why no phone can be measured from here; None = worth trying.

    Cheap: starts nothing, so whether a phone is connected is found out by
    :func:`android_rows`.
    """
    if find_adb() is None:
        return _ADB
    given = options.benchmark_model if options else None
    if given is not None and not given.is_file():
        return f"benchmark_model not found: {given}"
    if given is None and not anything_cached():
        return f"no benchmark_model in {cache_folder()}; see docs/phones.md"
    return None


def android_rows(
    files: Sequence[Path],
    images: Images | None,
    options: AndroidOptions,
    progress: Callable[[str], None] = say,
    skipped: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Measure TFLite files on the connected phone, on the CPU and on its accelerators.

    Everything lies in one folder on the phone, which is removed in every case.

    Args:
        files: .tflite files.
        images: names and uint8 (N, H, W, 3) pixels at the models' size; the first
            ``options.images`` are run on the phone. None = latency only.
        progress: gets a line before every measurement.
        skipped: what could not be measured is added here, as the report has it
            (runtime, file, reason).

    Returns:
        A row for each file, delegate and thread count, as the report has them, with
        ``device`` (the phone), ``thermal`` (``before`` and ``after``), ``delegate`` (what it
        took of the graph) and ``device_parity`` (against this machine's LiteRT, the same
        file). ``latency`` has no samples, as benchmark_model prints none. ``probabilities``
        is no JSON: a list with float32 (H, W) for each image, or in words why it has none, or
        None where masks were not asked for or could not be read; whoever knows the true masks
        takes it out and makes ``accuracy`` of it.

    Raises:
        InputError: no adb, no phone that is ready, a file that cannot be run, or anything
            that goes wrong on the way; a missing accelerator is skipped instead.
    """
    for file in files:
        if file.suffix.lower() != ".tflite":
            raise InputError(f"{file}: a phone runs .tflite files, got {file.suffix!r}")
    program = find_adb()
    if program is None:
        raise InputError(_ADB)
    adb = choose(Adb(program), options.serial)
    phone = facts(adb)
    tool = find_tool(options.benchmark_model, phone.abi)
    missing: list[dict[str, Any]] = [] if skipped is None else skipped
    rows: list[dict[str, Any]] = []
    with opened(adb) as folder:
        progress(f"{phone}: copying {tool.name}")
        folder.push(tool, TOOL, TOOL)
        folder.shell(f"chmod 755 {TOOL}", f"making {TOOL} executable")
        for file in files:
            one = FileOnPhone(file, folder, phone, options, progress, missing)
            rows += one.rows(images if options.images else None)
    return rows
