"""What egeunet-quantize sensitivity and search have in common: weights, graph, ranges, pictures."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from egeunet.export.request import OPTIMIZATIONS, ExportRequest
from egeunet.model.errors import InputError, needs_extra
from egeunet.quantize.operator_groups import LEVELS, operator_groups

if TYPE_CHECKING:
    from egeunet.export.graph import Graph
    from egeunet.export.request import Source
    from egeunet.model.data.prepared import PreparedData
    from egeunet.quantize.calibration import Calibration
    from egeunet.quantize.sensitivity import Sensitivity
    from egeunet.quantize.sensitivity_report import SensitivityReport


@dataclass(frozen=True)
class Setup:
    """What is measured, and on what."""

    source: Source
    graph: Graph
    calibration: Calibration
    data: PreparedData
    data_name: str

    def empty_report(self) -> SensitivityReport:
        """A sensitivity of this setup without rows."""
        from egeunet.quantize.calibration import ids_sha256
        from egeunet.quantize.sensitivity_report import SensitivityReport

        return SensitivityReport(
            self.source.sha256,
            self.graph.structure_sha256(),
            self.calibration.sha256(),
            self.data_name,
            len(self.data),
            ids_sha256(self.data.ids),
        )


def add_measuring_arguments(p: argparse.ArgumentParser) -> None:
    """The options that both commands have."""
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="images and masks")
    p.add_argument("--split", metavar="NAME", help="never test (default: held-out part of train)")
    p.add_argument("--hold-out", type=int, default=15, metavar="K", help="each K-th (default: 15)")
    p.add_argument("--limit", type=int, metavar="N", help="at most so many images, evenly spread")
    p.add_argument("--by", default="scope", metavar="L", help=" or ".join(LEVELS))
    p.add_argument("--scopes", nargs="+", default=(), metavar="S", help="only what lies in these")
    p.add_argument("--calibration", type=Path, metavar="F", help="by egeunet-quantize calibrate "
                   "(default: the shipped one, else DIR's training images)")  # fmt: skip
    p.add_argument("--weights", type=Path, metavar="F", help="default: the shipped weights")
    p.add_argument("--size", type=int, metavar="S", help="input side, 32 x n (default: contract's)")
    p.add_argument("--optimize", default="speed", metavar="O", help=" or ".join(OPTIMIZATIONS))
    p.add_argument("--quiet", action="store_true", help="no progress bar")


def prepared_setup(options: argparse.Namespace) -> Setup:
    """Everything that the options name, loaded.

    Raises:
        InputError: a bad option, weights, folder or calibration.
    """
    request = ExportRequest(
        "tflite", "int8", weights=options.weights, size=options.size, optimize=options.optimize
    )
    with needs_extra("torch"):
        from egeunet.export.exporter import load_source
        from egeunet.export.lean import build_lean_graph
        from egeunet.quantize.held_out import held_out_pictures
    source = load_source(request)
    contract = source.contract
    graph = build_lean_graph(source.model, contract, request.optimize)
    operator_groups(graph, options.by, options.scopes)  # refuses before the work
    data = held_out_pictures(
        options.data,
        contract.height,
        contract.width,
        split=options.split,
        every=options.hold_out,
        limit=options.limit,
        progress=not options.quiet,
    )
    part = options.split or f"held-out (each {options.hold_out}th)"
    name = f"{len(data)} {part} images of {options.data.resolve().name}"
    return Setup(source, graph, _calibration(options, request, source, graph), data, name)


def measured_rows(
    setup: Setup,
    groups: dict[str, tuple[str, ...]],
    progress_file: Path,
    quiet: bool,
) -> SensitivityReport:
    """The sensitivity of some groups; an interrupted measurement goes on where it stopped.

    Args:
        setup: what is measured.
        groups: names -> outputs of nodes.
        progress_file: holds the finished rows; whoever has saved the result removes it. One
            of other weights, pictures or ranges is replaced.
        quiet: no progress bar.

    Raises:
        KeyboardInterrupt: with how to go on.
    """
    from tqdm import tqdm

    from egeunet.quantize.sensitivity import measure_sensitivity
    from egeunet.quantize.sensitivity_report import SensitivityReport

    report = setup.empty_report()
    if progress_file.is_file():
        before = SensitivityReport.load(progress_file)
        if before.same_origin(report):
            report = before
            print(f"{progress_file}: goes on after {len(report.rows)} groups", file=sys.stderr)
    known = {row.name: row for row in report.rows}
    done = len(groups.keys() & known.keys())
    with tqdm(
        total=len(groups), initial=done, unit="group", disable=True if quiet else None
    ) as bar:

        def keep(row: Sensitivity) -> None:
            nonlocal report
            report = replace(report, rows=(*report.rows, row))
            report.save(progress_file)
            bar.set_postfix_str(row.name)
            bar.update()

        try:
            rows = measure_sensitivity(
                setup.graph, setup.calibration, setup.source.contract, setup.data, groups,
                known=known, on_row=keep,
            )  # fmt: skip
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"{len(report.rows)} of {len(groups)} groups are kept in {progress_file}; run the "
                "same command again to go on"
            ) from stop
    return replace(report, rows=tuple(rows))


def _calibration(
    options: argparse.Namespace, request: ExportRequest, source: Source, graph: Graph
) -> Calibration:
    from egeunet.quantize.calibration import Calibration
    from egeunet.quantize.precision import calibration_for, shipped_calibrations
    from egeunet.quantize.recipe_match import require_match

    if options.calibration is not None:
        found = Calibration.load(options.calibration)
        try:
            require_match(found, None, graph, source, request)
        except InputError as error:
            raise InputError(f"{options.calibration}: {error}") from error
        return found
    shipped = any(one.matches(graph, source.sha256) for one in shipped_calibrations())
    return calibration_for(graph, source, None if shipped else options.data)
