"""The rows of one file on one phone: latency by delegate and thread count, then masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egeunet.benchmarks.android.benchmark_output import Timing, last_words, read_timing
from egeunet.benchmarks.android.delegates import CPU, DELEGATES, Applied, applied
from egeunet.benchmarks.android.device_masks import (
    MODEL,
    TOOL,
    compare,
    device_outputs,
    push_inputs,
)
from egeunet.benchmarks.android.options import AndroidOptions
from egeunet.benchmarks.android.phone import PhoneFacts, thermal
from egeunet.benchmarks.android.remote_folder import RemoteFolder, died_of
from egeunet.benchmarks.model_file import describe_file
from egeunet.benchmarks.rows import shown_path
from egeunet.export.runners.litert_runner import LiteRTRunner
from egeunet.export.runners.runner import Pixels, checked_pixels
from egeunet.model.errors import InputError

Images = tuple[Sequence[str], Pixels]


@dataclass
class FileOnPhone:
    """One file on one phone.

    Attributes:
        folder: the one on the phone, which holds benchmark_model.
        progress: gets a line before every measurement.
        skipped: gets an entry for every accelerator that did not run the file.
    """

    file: Path
    folder: RemoteFolder
    phone: PhoneFacts
    options: AndroidOptions
    progress: Callable[[str], None]
    skipped: list[dict[str, Any]]

    def rows(self, images: Images | None) -> list[dict[str, Any]]:
        """Measure; ``images`` as in :func:`egeunet.benchmarks.android.rows.android_rows`.

        Raises:
            InputError: the file cannot be run, or the phone is gone.
        """
        if not self.file.is_file():
            raise InputError(f"model not found: {self.file}")
        self.folder.push(self.file, MODEL, self.file.name)
        ids: Sequence[str] = ()
        if images is not None:
            runner = LiteRTRunner(self.file, threads=1)
            ids = images[0][: self.options.images]
            pixels = checked_pixels(images[1][: self.options.images], runner.contract)
            self.progress(f"{self.file.name}: copying {len(ids)} images")
            push_inputs(self.folder, runner, pixels)
            host, threshold = runner(pixels), runner.contract.threshold
        rows = []
        for name in self.options.delegates:
            found = []
            for threads in self.options.threads if name == CPU else self.options.threads[:1]:
                row = self._row(name, threads)
                if row is None:
                    break
                found.append(row)
            if found and len(ids):
                self.progress(f"{self.file.name}: masks, {DELEGATES[name].title}")
                given = device_outputs(
                    self.folder, self.file, runner, ids, name, self.options.seconds
                )
                for row in found:
                    if isinstance(given, str):
                        row["note"] += f"; masks not compared: {given}"
                    else:
                        row["device_parity"] = compare(given, host, threshold)
                        row["probabilities"] = given
            rows += found
        return rows

    def _row(self, name: str, threads: int) -> dict[str, Any] | None:
        before = thermal(self.folder.adb)
        timing, verdict = self._time(name, threads)
        if timing is None:
            self.skipped.append(
                {
                    "runtime": f"android-{name}",
                    "file": self.file.name,
                    "reason": f"{self.phone}: {verdict.reason}",
                }
            )
            return None
        after = thermal(self.folder.adb)
        note = f"{self.phone}, {DELEGATES[name].title}"
        if verdict.nodes and verdict.share == "part":
            note += f", which took {verdict.nodes[0]} of {verdict.nodes[1]} operators"
        elif verdict.share == "part":
            note += ", which took a part of the graph"
        flags = self._flags(timing, threads, before, after)
        return {
            "id": f"{self.file.name}|android-{name}|{threads}",
            "file": self.file.name,
            "path": shown_path(self.file),
            **describe_file(self.file),
            "runtime": f"android-{name}",
            "peer": False,
            "threads": threads,
            "note": note,
            "accuracy": None,
            "latency": timing.to_latency(flags),
            "ratio": None,
            "instructions": None,
            "gates": [],
            "where": None,
            "device": self.phone.to_dict(),
            "thermal": {"before": before, "after": after},
            "delegate": {
                "name": name,
                "share": verdict.share,
                "nodes": list(verdict.nodes or ()) or None,
            },
            "device_parity": None,
            "probabilities": None,
        }

    def _time(self, name: str, threads: int) -> tuple[Timing | None, Applied]:
        """The timing and what ran; no timing where the accelerator did not."""
        title = DELEGATES[name].title
        doing = f"timing {self.file.name}, {title}, {threads} thread(s)"
        self.progress(doing)
        arguments = [
            f"--graph={MODEL}",
            DELEGATES[name].flag,
            f"--num_threads={threads}",
            f"--num_runs={self.options.runs}",
            f"--warmup_runs={self.options.warmup}",
        ]
        code, output = self.folder.execute(
            TOOL,
            arguments,
            affinity=self.options.affinity,
            doing=doing,
            seconds=self.options.seconds,
        )
        if code:
            how = died_of(code) or f"failed ({last_words(output)})"
            if name == CPU:
                raise InputError(f"benchmark_model {how} while {doing}")
            return None, Applied("none", reason=f"{title}: benchmark_model {how}")
        verdict = applied(name, output)
        if name != CPU and verdict.share in ("none", None):
            return None, verdict
        return read_timing(output), verdict

    def _flags(
        self,
        timing: Timing,
        threads: int,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> list[str]:
        flags = []
        if any((state or {}).get("status") for state in (before, after)):
            flags.append("throttled")
        if timing.runs is not None and timing.runs < self.options.runs:
            flags.append("too few samples")
        if timing.threads != threads:
            flags.append("threads unconfirmed")
        return flags
