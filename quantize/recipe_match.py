"""Whether what was recorded for some weights and a graph may be used for an export."""

from __future__ import annotations

from egeunet.export.graph import Graph
from egeunet.export.request import ExportRequest, Source
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration


def require_match(
    calibration: Calibration,
    optimize: str | None,
    graph: Graph,
    source: Source,
    request: ExportRequest,
) -> None:
    """Refuse ranges that mean nothing for an export.

    Args:
        calibration: what was recorded.
        optimize: the form of the graph that it was recorded on; None = unknown.
        graph, source, request: the export's.

    Raises:
        InputError: of other weights, another size, another form or another version's graph.
    """
    if calibration.weights_sha256 != source.sha256:
        raise InputError(
            f"made for weights {calibration.weights_sha256[:12]}, not for {source.weights} "
            f"({source.sha256[:12]}); make it again for these weights"
        )
    made, asked = (calibration.height, calibration.width), graph_size(graph)
    if made != asked:
        raise InputError(
            f"made for {made[0]} x {made[1]} pixels, asked for {asked[0]} x {asked[1]}; "
            f"export with --size {made[0]} or make it again"
        )
    if optimize is not None and optimize != request.optimize:
        raise InputError(
            f"made for --optimize {optimize}, asked for {request.optimize}; export with "
            f"--optimize {optimize} or make it again"
        )
    if not calibration.matches(graph, source.sha256):
        other = "" if optimize else " or another --optimize"
        raise InputError(
            f"made for another graph (another version of egeunet-mobile{other}); make it again"
        )


def graph_size(graph: Graph) -> tuple[int, int]:
    """Height and width of the input."""
    _, height, width, _ = graph.values[graph.input].shape
    return height, width
