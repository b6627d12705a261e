"""Rows that no process of this machine makes: emulated ARM64 builds, and phones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.android.options import AndroidOptions
from egeunet.benchmarks.android.rows import android_rows
from egeunet.benchmarks.android.rows import problem as android_problem
from egeunet.benchmarks.arm64 import installation
from egeunet.benchmarks.arm64.cpus import DEFAULT_CPU
from egeunet.benchmarks.arm64.row import ARM64_RUNTIMES, arm64_row_part
from egeunet.benchmarks.candidates import Skip
from egeunet.benchmarks.gates import verdicts
from egeunet.benchmarks.labelled_images import SYNTHETIC, LabelledImages
from egeunet.benchmarks.model_file import describe_file
from egeunet.benchmarks.parity import Parity
from egeunet.benchmarks.rows import Row, shown_path
from egeunet.benchmarks.runtimes import find_runtime
from egeunet.export.runners import open_runner
from egeunet.model.errors import InputError

ANDROID = "android"
#: Names that --runtime takes besides the registered ones.
ELSEWHERE = (*ARM64_RUNTIMES, ANDROID)
#: An emulated inference takes seconds.
MOST_IMAGES = 20


@dataclass(frozen=True)
class Elsewhere:
    """What is measured elsewhere.

    Attributes:
        runtimes: some of :data:`ELSEWHERE`.
        cpu, root: of the emulation, see :func:`arm64_row_part`.
        phone: how to measure on a phone.

    Raises:
        InputError: a runtime cannot be used here as things are.
    """

    runtimes: tuple[str, ...] = ()
    cpu: str = DEFAULT_CPU
    root: Path | None = None
    phone: AndroidOptions | None = None

    def __post_init__(self) -> None:
        for name in self.runtimes:
            if problem := self.problem(name):
                raise InputError(f"runtime {name}: {problem}")

    def problem(self, name: str) -> str | None:
        """Why one of the runtimes cannot be used, None if it can be tried."""
        if name == ANDROID:
            return android_problem(self.phone)
        return installation.problem(self.root)

    def takes(self, path: Path) -> bool:
        """Whether one of the runtimes runs the file."""
        suffixes = [ARM64_RUNTIMES.get(name, ".tflite") for name in self.runtimes]
        return path.suffix.lower() in suffixes

    def leaves(self, files: Sequence[Path], runtimes: Sequence[str]) -> tuple[Path, ...]:
        """The files that are (also) for the runtimes of this machine, given by name; those
        that only run elsewhere are nobody's fault there."""
        if not self.runtimes:
            return tuple(files)
        here = [find_runtime(name) for name in runtimes]
        return tuple(
            path
            for path in files
            if not self.takes(path) or any(each.accepts(path) for each in here)
        )

    def rows(
        self,
        files: Sequence[Path],
        weights: Path,
        images: LabelledImages,
        step: Callable[[str], None] = lambda what: None,
    ) -> tuple[list[Row], list[Skip]]:
        """The rows, with accuracy on the first :data:`MOST_IMAGES` images, and what is left out.

        Raises:
            InputError: what the emulator or the phone says, in one line.
        """
        rows: list[Row] = []
        skipped: list[Skip] = []
        if not self.runtimes:
            return rows, skipped
        truth = _Truth(weights, images)
        for name in self.runtimes:
            mine = [path for path in files if Elsewhere._runs(name, path)]
            if name == ANDROID:
                left_out: list[dict[str, Any]] = []
                given = (truth.ids, truth.pixels)
                options = self.phone or AndroidOptions()
                found = android_rows(mine, given, options, step, left_out) if mine else []
                skipped += [Skip(**each) for each in left_out]
                rows += [truth.judged(row, row.pop("probabilities")) for row in found]
                continue
            for path in mine:
                step(f"counting {path.name} on an emulated {self.cpu}")
                part = arm64_row_part(
                    path, truth.pixels, cpu=self.cpu, root=self.root, runtime=name
                )
                rows.append(truth.judged(_arm64_row(path, part), part["probability"]))
        return rows, skipped

    @staticmethod
    def _runs(name: str, path: Path) -> bool:
        return path.suffix.lower() == ARM64_RUNTIMES.get(name, ".tflite")


class _Truth:
    """The first images, their masks, and what the reference makes of them."""

    def __init__(self, weights: Path, images: LabelledImages) -> None:
        reference = open_runner(weights)
        loaded = list(islice(images.load(reference.contract), MOST_IMAGES))
        self.ids = [each.id for each in loaded]
        self.pixels = np.stack([each.image for each in loaded])  # (N, H, W, 3)
        self._masks = [each.mask for each in loaded]
        self._expected = reference(self.pixels)[..., 0]  # (N, H, W)
        self._threshold = reference.contract.threshold
        self._synthetic = images.name == SYNTHETIC

    def judged(self, row: Row, probability: Any) -> Row:
        """The row with accuracy and gates, where there are probabilities (N, H, W, 1)."""
        if probability is None:
            return row
        parity = Parity(self._threshold)
        for index, actual in enumerate(probability[..., 0]):
            finite = bool(np.isfinite(actual).all())
            parity.add(
                self.ids[index],
                self._masks[index],
                self._expected[index],
                actual if finite else None,
                "the model gives NaN or infinite values",
            )
        accuracy = parity.to_dict()
        judged = verdicts(row["precision"], accuracy, synthetic=self._synthetic)
        note = f"accuracy on {len(parity.ids)} images"
        return row | {
            "note": f"{row['note']}; {note}" if row["note"] else note,
            "accuracy": accuracy,
            "gates": [verdict.to_dict() for verdict in judged],
        }


def _arm64_row(path: Path, part: dict[str, Any]) -> Row:
    return {
        "id": f"{path.name}|{part['runtime']}|{part['threads']}",
        "file": path.name,
        "path": shown_path(path),
        **describe_file(path),
        "runtime": part["runtime"],
        "peer": False,
        "threads": part["threads"],
        "note": part["note"],
        "accuracy": None,
        "latency": None,
        "ratio": None,
        "instructions": part["instructions"],
        "gates": [],
        "where": None,
    }
