"""Calibration: what is recorded, what is refused, and what a file of it may hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.model import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import KIND, Calibration, calibrate, ids_sha256
from egeunet.quantize.range_methods import RangeMethod

CONTRACT = ModelContract(32, 64)
RANGES = {"image": (0.0, 1.0), "v1": (-2.5, 3.25)}


def graph(factor: float = 2.0) -> Graph:
    b = GraphBuilder((1, 32, 64, 3))
    return b.finish(b.mul(b.input, b.constant(np.array([factor], np.float32))))


def image(low: int, high: int) -> Any:
    pixels = np.full((32, 64, 3), low, np.uint8)
    pixels[3, 5, 1] = high
    return pixels


def calibration(**changes: Any) -> Calibration:
    values = {
        "ranges": RANGES, "source": "tests", "images": 3, "weights_sha256": "ab", "height": 32,
        "width": 64,
    }  # fmt: skip
    return Calibration(**{**values, **changes})


def record(images: list[Any], of: Graph | None = None) -> Calibration:
    return calibrate(of or graph(), CONTRACT, images, source="tests", weights_sha256="ab")


def test_extremes_are_averaged_over_images() -> None:
    found = record([image(0, 255), image(51, 153)])
    assert found.images == 2
    source = graph()
    low, high = found.ranges[source.input]
    assert (low, high) == pytest.approx((0.1, 0.8), abs=1e-6)
    assert found.ranges[source.output] == pytest.approx((0.2, 1.6), abs=1e-6)
    assert set(found.ranges) == {source.input, source.output}
    assert (found.source, found.weights_sha256, found.height, found.width) == (
        "tests",
        "ab",
        32,
        64,
    )


def test_pixels_are_normalized_as_the_contract_says() -> None:
    contract = ModelContract(32, 64, normalization="minmax255")
    found = calibrate(graph(), contract, [image(51, 153)], source="", weights_sha256="")
    assert found.ranges["image"] == (0.0, 255.0)


def test_images_are_read_one_at_a_time() -> None:
    made: list[int] = []

    def stream() -> Any:
        for index in range(3):
            made.append(index)
            yield image(0, 255) if index < 2 else np.zeros((8, 8, 3), np.uint8)

    with pytest.raises(InputError, match=r"shape \(8, 8, 3\), expected \(32, 64, 3\)"):
        record(stream())
    assert made == [0, 1, 2]


@pytest.mark.parametrize("shape", [(64, 32, 3), (32, 64), (32, 64, 4), (1, 32, 64, 3)])
def test_wrong_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="calibration image of shape"):
        record([np.zeros(shape, np.uint8)])


def test_no_images() -> None:
    with pytest.raises(InputError, match="no calibration image"):
        record([])


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_activations_that_are_not_finite(factor: float) -> None:
    with pytest.raises(InputError, match="not finite; are the weights broken"):
        record([image(0, 255)], graph(factor))


def test_matches_its_weights_and_its_graph_only() -> None:
    found = record([image(0, 255)])
    assert found.matches(graph(), "ab")
    assert found.matches(graph(3.0), "ab")  # the hash of the weights says what the numbers are
    assert not found.matches(graph(), "cd")
    for height, operator in ((64, "mul"), (32, "add")):
        b = GraphBuilder((1, height, 64, 3))
        factor = b.constant(np.array([2.0], np.float32))
        other = b.finish(getattr(b, operator)(b.input, factor))
        assert not found.matches(other, "ab"), (height, operator)
    assert not calibration().matches(graph(), "ab")  # recorded by nobody knows what


def test_the_manifest_says_how_and_on_which_images() -> None:
    images = [image(0, 255), image(51, 153)]
    method = RangeMethod("percentile", 99)
    found = calibrate(
        graph(), CONTRACT, images, source="tests", weights_sha256="ab", method=method,
        ids=["b", "a"],
    )  # fmt: skip
    assert found.method == "percentile 99" and found.ids_sha256 == ids_sha256(["a", "b"])
    assert found.summary() == {
        "calibration": "tests", "calibration_images": 2, "calibration_method": "percentile 99"
    }  # fmt: skip
    plain = record(images)
    assert (plain.method, plain.ids_sha256) == ("min-max", "")
    # One pixel of 6,144 is cut off, so the range is that of the even ones: 0 to 51.
    assert found.ranges["image"] == pytest.approx((0, 0.2), abs=1e-3)


def test_hashes_tell_calibrations_and_images_apart() -> None:
    assert ids_sha256(["a", "b"]) == ids_sha256(["b", "a"]) != ids_sha256(["ab"])
    same, other = calibration(), calibration(ranges={**RANGES, "v1": (-2.5, 3.5)})
    assert same.sha256() == calibration().sha256() != other.sha256()
    assert same.sha256() != calibration(method="mse").sha256()


def test_a_file_of_an_older_version(tmp_path: Path) -> None:
    """The shipped ones are: without kind, method and hash of the images."""
    path = tmp_path / "c.json"
    calibration().save(path)
    values = json.loads(path.read_text())
    assert values.pop("kind") == KIND
    del values["method"], values["ids_sha256"]
    path.write_text(json.dumps(values))
    assert Calibration.load(path) == calibration()


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=30)
@given(bounds=st.lists(st.tuples(finite, finite).map(sorted).map(tuple), max_size=5))
def test_json_round_trip(
    bounds: list[tuple[float, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    saved = calibration(ranges={f"v{i}": pair for i, pair in enumerate(bounds)})
    path = tmp_path_factory.mktemp("c") / "calibration.json"
    saved.save(path)
    loaded = Calibration.load(path)
    for name, pair in saved.ranges.items():  # six digits are kept
        assert loaded.ranges[name] == pytest.approx(pair, rel=1e-5)
    assert replace(loaded, ranges={}) == replace(saved, ranges={})
    loaded.save(path)
    assert Calibration.load(path) == loaded


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "3", "{}", '{"ranges": {}}', '{"ranges": []}',
        "\udcff",
    ],
)  # fmt: skip
def test_a_corrupted_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"c\.json: not a calibration file"):
        Calibration.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ranges": {"v1": [0, 1, 2]}}, {"ranges": {"v1": [0]}}, {"ranges": {"v1": "x"}},
        {"ranges": {"v1": ["low", 1]}}, {"ranges": {"v1": [float("nan"), 1]}},
        {"ranges": {"v1": [0, float("inf")]}}, {"ranges": {"v1": [2, 1]}}, {"images": 0},
        {"images": "3"}, {"height": -32}, {"width": None}, {"more": 1},
        {"method": 3}, {"ids_sha256": None}, {"kind": "egeunet mixed int8 recipe"},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_with_a_wrong_value(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**calibration().to_dict(), **changes}))
    with pytest.raises(InputError, match=r"c\.json: not a calibration file"):
        Calibration.load(path)


def test_a_file_cut_in_half_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    calibration().save(path)
    path.write_bytes(path.read_bytes()[:100])
    for bad in (path, tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match="not a calibration file"):
            Calibration.load(bad)
