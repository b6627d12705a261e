"""Size, accuracy and latency of model files beside the reference they were made from.

The report's schema is in report/schema.py, its meaning in docs/benchmarks.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from egeunet.benchmarks.artefacts import DEFAULTS, RECIPES, artefacts_of
from egeunet.benchmarks.candidates import Choice, Skip
from egeunet.benchmarks.crew import Crew
from egeunet.benchmarks.elsewhere import Elsewhere
from egeunet.benchmarks.evidence import pictures_of
from egeunet.benchmarks.labelled_images import SYNTHETIC, LabelledImages
from egeunet.benchmarks.latency import FULL, QUICK, Plan, measure
from egeunet.benchmarks.parity import compare
from egeunet.benchmarks.processing import time_processing
from egeunet.benchmarks.report.schema import SCHEMA_VERSION, TOOL
from egeunet.benchmarks.rows import Measured, Row, failed_gates, rows_of
from egeunet.benchmarks.steps import Steps
from egeunet.benchmarks.validity import Machine
from egeunet.benchmarks.where import where
from egeunet.export.provenance import environment, sha256_of
from egeunet.export.report import TARGET_BYTES
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

#: How many images the search for the first tensor that departs runs.
_WHERE_IMAGES = 2

Report = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What is measured, and how thoroughly.

    Attributes:
        choice: files, runtimes and threads; without named files those of artefacts.py are
            taken, exported where they are missing.
        images: for accuracy; latency is measured on the first.
        elsewhere: runtimes that are no process of this machine: emulated, or on a phone.
        out: folder of the exports.
        plan: how long latency is measured; None = as ``choice.quick`` says.
        recipes: take every named recipe of the .tflite file in place of every format.
        find_where: name the first tensor that departs in files that fail a gate.
        pictures: draw the worst masks.
    """

    choice: Choice
    images: LabelledImages
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    out: Path = Path("build")
    plan: Plan | None = None
    recipes: bool = False
    find_where: bool = False
    pictures: bool = False

    def run(self, steps: Steps | None = None) -> Report:
        """Measure everything; the first row of the report is the reference.

        Raises:
            InputError: torch is missing, a named file cannot be run by any of its
                runtimes, or it has another input size than the weights.
        """
        with steps or Steps(quiet=True) as steps:
            return self._run(steps)

    def _run(self, steps: Steps) -> Report:
        machine, start = Machine.now(), time.monotonic()
        choice, skipped = self._with_files(steps)
        here = replace(choice, files=self.elsewhere.leaves(choice.files, choice.runtimes))
        candidates, left_out = here.candidates(steps.step)
        skipped += left_out
        plan = self.plan or (QUICK if choice.quick else FULL)
        timed = sum(each.runtime.timed for each in candidates)
        steps.expect(3 * len(candidates) + len(self.images.items) + timed * plan.rounds + 1)
        with Crew(candidates, steps.step) as crew:
            measured = self._measured(crew, plan, steps)
            rows = rows_of(measured, machine, synthetic=self.images.name == SYNTHETIC)
            drawn = pictures_of(rows, crew, self.images) if self.pictures else []
            contract = crew.opened[crew.reference].contract
            paths = {id: each.path for id, each in crew.candidates.items()}
            skipped += crew.skipped
        steps.step("timing what is around the network")
        pre_post = time_processing(contract, plan)
        more, left_out = self.elsewhere.rows(choice.files, choice.weights, self.images, steps.step)
        rows, skipped = rows + more, skipped + left_out
        if self.find_where:
            skipped += self._find_where(rows, paths, contract, steps)
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": TOOL,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": choice.quick,
            "duration_s": time.monotonic() - start,
            "data": {
                "name": self.images.name,
                "split": self.images.split,
                "images": len(self.images.items),
                "synthetic": self.images.name == SYNTHETIC,
            },
            "target_bytes": TARGET_BYTES,
            "environment": environment() | machine.to_dict(),
            "reference": {"file": choice.weights.name, "sha256": sha256_of(choice.weights)},
            "rows": rows,
            "pre_post": pre_post,
            "skipped": [asdict(each) for each in skipped],
            "pictures": drawn,
            "gates_failed": failed_gates(rows),
        }

    def _with_files(self, steps: Steps) -> tuple[Choice, list[Skip]]:
        """The choice with the files that it does not name."""
        for path in (self.choice.weights, *self.choice.files):
            if not path.exists():
                raise InputError(f"model not found: {path}; give the path of a model file")
        if self.choice.named:
            return self.choice, []
        formats = RECIPES if self.recipes else DEFAULTS
        steps.expect(len(formats))
        files, missing = artefacts_of(
            self.choice.weights, self.out, formats, lambda name: steps.step(f"exporting {name}")
        )
        return replace(self.choice, files=tuple(files)), missing

    def _measured(self, crew: Crew, plan: Plan, steps: Steps) -> dict[str, Measured]:
        contract = crew.opened[crew.reference].contract
        thresholds = {id: each.contract.threshold for id, each in crew.opened.items()}
        parities = compare(
            crew.workers[crew.reference],
            crew.workers,
            thresholds,
            self.images.load(contract),
            lambda id: steps.step(f"accuracy on {id}"),
        )
        for id, parity in parities.items():
            if crew.candidates[id].runtime.peer and parity.useless:
                crew.drop(id, parity.reasons[0])
        first = next(iter(self.images.load(contract))).image[None]  # (1, H, W, 3)
        timings, trouble = measure(
            crew.timed, first, plan, keep_open=crew.slow_to_open,
            step=lambda id: steps.step(f"timing {' '.join(id.split('|'))}"),
        )  # fmt: skip
        return {
            id: Measured(each, crew.opened[id], parities[id], timings.get(id), trouble.get(id))
            for id, each in crew.candidates.items()
        }

    def _find_where(
        self,
        rows: Sequence[Row],
        paths: dict[str, Path],
        contract: ModelContract,
        steps: Steps,
    ) -> list[Skip]:
        """Fill in ``where`` of the rows that fail a gate; the files it cannot be found for."""
        images = islice(self.images.load(contract), _WHERE_IMAGES)
        pixels = np.stack([each.image for each in images])
        found: dict[Path, Row | None] = {}
        skipped = []
        for row in rows:
            path = paths.get(row["id"])
            if path is None or all(gate["passed"] for gate in row["gates"]):
                continue
            if path not in found:
                steps.step(f"searching {row['file']} for the first tensor that departs")
                try:
                    found[path] = where(path, self.choice.weights, row["precision"], pixels)
                except InputError as error:
                    found[path] = None
                    skipped.append(Skip("--where", row["file"], str(error)))
            row["where"] = found[path]
        return skipped
