"""Simulated int8 against the file itself, run by LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egeunet.export.graph import Graph
from egeunet.export.interpret import run_graph
from egeunet.export.lean import build_lean_graph
from egeunet.export.runners import open_runner
from egeunet.export.tflite.emit import emit_tflite
from egeunet.model import EGEUNet, ModelContract
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.int8 import IO_TYPES, quantize_int8
from egeunet.quantize.operator_groups import operator_groups
from egeunet.quantize.simulation import in_real_numbers, simulate

pytestmark = pytest.mark.xdist_group("tflite")
CONTRACT = ModelContract(64, 64)
IMAGES = np.stack([synthetic_sample(index, 64, 7)[0] for index in range(3)])
PIXELS = torch.from_numpy(CONTRACT.normalize(IMAGES))


@pytest.fixture(scope="module")
def network() -> Graph:
    torch.manual_seed(5)
    return build_lean_graph(EGEUNet().eval(), CONTRACT)


@pytest.fixture(scope="module")
def calibration(network: Graph) -> Calibration:
    return calibrate(network, CONTRACT, IMAGES, source="", weights_sha256="")


def by_file(graph: Graph, folder: Path) -> np.ndarray:
    path = folder / "m.tflite"
    path.write_bytes(emit_tflite(graph, CONTRACT))
    return open_runner(path)(IMAGES)


def norms(graph: Graph) -> tuple[str, ...]:
    """What int8 keeps in float32 by default."""
    return tuple(n.output for n in graph.nodes if n.op == "rsqrt" or "group_norm" in n.scope)


@pytest.mark.parametrize("scope", ["GAB3", "encoder1/group_norm", "decoder2/layer_norm"])
def test_one_group_alone_as_the_file_computes(
    network: Graph, calibration: Calibration, tmp_path: Path, scope: str
) -> None:
    kept = {node.output for node in network.nodes} - set(operator_groups(network)[scope])
    quantized = quantize_int8(network, calibration, CONTRACT, "float32", kept)
    assert 0 < quantized.operators()["quantize"] < 30
    found, exact = simulate(quantized, PIXELS).numpy(), run_graph(network, PIXELS).numpy()
    harm = np.abs(found - exact).max()
    assert harm > 0.01  # quantizing does something, and the file does just that
    assert np.abs(found - by_file(quantized, tmp_path)).max() < 0.01 * harm


@pytest.mark.parametrize("io", IO_TYPES)
def test_the_whole_network_as_the_file_computes(
    network: Graph, calibration: Calibration, tmp_path: Path, io: str
) -> None:
    quantized = quantize_int8(network, calibration, CONTRACT, io, norms(network))
    found, file = simulate(quantized, PIXELS).numpy(), by_file(quantized, tmp_path)
    exact = run_graph(network, PIXELS).numpy()
    # Rounding of two implementations differs at ties, and all later layers see it.
    assert np.abs(found - file).mean() < 0.2 * np.abs(file - exact).mean()
    assert ((found >= 0.5) == (file >= 0.5)).mean() > 0.99


def test_integers_lie_on_their_grids(network: Graph, calibration: Calibration) -> None:
    quantized = quantize_int8(network, calibration, CONTRACT, "uint8", norms(network))
    real = in_real_numbers(quantized)
    grids = [node for node in real.nodes if node.op == "on_grid"]
    integers = [n for n in quantized.nodes if quantized.values[n.output].dtype != "float32"]
    assert [node.output for node in grids] == [node.output for node in integers]
    assert {value.dtype for value in real.values.values()} == {"float32"}
    units = simulate(quantized, PIXELS).numpy() * 256
    assert np.array_equal(units, np.round(units)) and 0 <= units.min() < units.max() <= 255


def test_a_float_graph_stays_as_it_is(network: Graph) -> None:
    assert torch.equal(simulate(network, PIXELS), run_graph(network, PIXELS))
