"""What a .tflite file says about itself: our contract and the standard's description."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tiny_models as tiny
from egeunet.export import export
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.request import METADATA, ExportRequest
from egeunet.export.runners import open_runner
from egeunet.export.tflite.emit import emit_tflite
from egeunet.export.tflite.metadata import metadata_entries, segmenter_metadata
from egeunet.export.tflite.metadata_schema import TABLES, Table, encode
from egeunet.model import ModelContract
from egeunet.model.errors import InputError

pytestmark = pytest.mark.xdist_group("tflite")
CONTRACT = ModelContract(64, 96, threshold=0.4)
PUBLIC = ModelContract(64, 96, normalization="minmax255")
#: What the standard description may cost beside the contract.
FULL_BYTES = 1500


@pytest.fixture(scope="module")
def graph() -> Graph:
    """sigmoid(w . rgb + bias) of each pixel."""
    b = GraphBuilder((1, CONTRACT.height, CONTRACT.width, 3))
    weight = tiny.WEIGHTS.reshape(1, 1, 1, 3)
    logit = b.conv2d(b.input, weight, np.array([tiny.BIAS], np.float32))
    return b.finish(b.elementwise("sigmoid", logit))


class Reader:
    """Reads a flatbuffer's tables by the format's documentation, fields by name."""

    def __init__(self, data: bytes, name: str, position: int | None = None) -> None:
        self.data, self.name = data, name
        self.position = self.at("I", 0) if position is None else position

    def at(self, form: str, position: int) -> Any:
        return struct.unpack_from("<" + form, self.data, position)[0]

    def field(self, name: str) -> int | None:
        vtable = self.position - self.at("i", self.position)
        entry = 4 + 2 * TABLES[self.name].index(name)
        offset = self.at("H", vtable + entry) if entry < self.at("H", vtable) else 0
        return self.position + offset if offset else None

    def number(self, name: str, form: str) -> Any:
        position = self.field(name)
        return 0 if position is None else self.at(form, position)

    def target(self, name: str) -> int:
        position = self.field(name)
        assert position is not None, f"{self.name} has no {name}"
        return int(position + self.at("I", position))

    def table(self, name: str, kind: str) -> Reader:
        return Reader(self.data, kind, self.target(name))

    def only(self, name: str, kind: str) -> Reader:
        """The one element of a vector of tables."""
        vector = self.target(name)
        assert self.at("I", vector) == 1
        return Reader(self.data, kind, vector + 4 + self.at("I", vector + 4))

    def content(self, name: str) -> bytes:
        """A vector of bytes, or a string."""
        vector = self.target(name)
        return self.data[vector + 4 : vector + 4 + self.at("I", vector)]

    def floats(self, name: str) -> list[float]:
        vector = self.target(name)
        return list(struct.unpack_from(f"<{self.at('I', vector)}f", self.data, vector + 4))


def entries_of(data: bytes) -> dict[str, bytes]:
    model = schema.Model.GetRootAs(data, 0)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    return {e.Name().decode(): bytes(model.Buffers(e.Buffer()).DataAsNumpy()) for e in entries}


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ("none", set()),
        ("contract", {"EGEUNET_CONTRACT"}),
        ("full", {"EGEUNET_CONTRACT", "TFLITE_METADATA"}),
    ],
)
def test_entries_in_the_file(graph: Graph, metadata: str, names: set[str]) -> None:
    entries = entries_of(emit_tflite(graph, CONTRACT, metadata))
    assert set(entries) == names
    assert entries == metadata_entries(CONTRACT, metadata)
    if "EGEUNET_CONTRACT" in names:
        assert json.loads(entries["EGEUNET_CONTRACT"]) == CONTRACT.to_dict()


def test_the_description_reads_back() -> None:
    data = segmenter_metadata(CONTRACT)
    assert data[4:8] == b"M001"
    model = Reader(data, "ModelMetadata")
    assert model.content("name") == b"EGE-UNet"
    assert model.content("min_parser_version") == b"1.5.0"  # custom metadata came with it
    subgraph = model.only("subgraph_metadata", "SubGraphMetadata")

    image = subgraph.only("input_tensor_metadata", "TensorMetadata")
    assert image.content("name") == b"image"
    content = image.table("content", "Content")
    assert content.number("content_properties_type", "B") == 2  # ImageProperties
    properties = content.table("content_properties", "ImageProperties")
    assert properties.number("color_space", "b") == 1  # RGB
    size = properties.table("default_size", "ImageSize")
    assert (size.number("width", "I"), size.number("height", "I")) == (96, 64)
    unit = image.only("process_units", "ProcessUnit")
    assert unit.number("options_type", "B") == 1  # NormalizationOptions
    normalization = unit.table("options", "NormalizationOptions")
    mean, std = normalization.floats("mean"), normalization.floats("std")
    pixels = np.arange(256, dtype=np.uint8)
    expected = CONTRACT.normalize(pixels.reshape(1, 16, 16, 1)).ravel()
    np.testing.assert_allclose((pixels - mean[0]) / std[0], expected, atol=1e-7)

    mask = subgraph.only("output_tensor_metadata", "TensorMetadata")
    assert mask.content("name") == b"lesion"
    assert mask.content("description") == b"lesion probability, threshold 0.4"
    content = mask.table("content", "Content")
    assert content.table("content_properties", "ImageProperties").number("color_space", "b") == 2
    axes = content.table("range", "ValueRange")
    assert (axes.number("min", "i"), axes.number("max", "i")) == (1, 2)

    custom = subgraph.only("custom_metadata", "CustomMetadata")
    assert custom.content("name") == b"SEGMENTER_METADATA"
    assert (custom.target("data") + 4) % 16 == 0  # the schema's force_align
    options = custom.content("data")
    assert options[4:8] == b"V001"
    # The probability is finished: no activation is left to do.
    assert Reader(options, "ImageSegmenterOptions").number("activation", "b") == 0


def test_what_it_costs(graph: Graph) -> None:
    sizes = [len(emit_tflite(graph, CONTRACT, metadata)) for metadata in METADATA]
    full, contract, none = sizes
    assert none < contract < full <= contract + FULL_BYTES, sizes


def test_the_default_of_the_emitter_is_the_contract(graph: Graph) -> None:
    assert emit_tflite(graph, CONTRACT) == emit_tflite(graph, CONTRACT, "contract")


@pytest.fixture
def quick_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT without its trial in another process, which costs seconds."""
    from egeunet.export.runners import litert_runner

    monkeypatch.setattr(litert_runner, "_try_in_another_process", lambda path: None)


@pytest.mark.usefixtures("quick_runner")
@pytest.mark.parametrize("metadata", METADATA)
def test_a_runner_takes_all_of_them(graph: Graph, tmp_path: Path, metadata: str) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(emit_tflite(graph, CONTRACT, metadata))
    runner = open_runner(path)
    defaults = ModelContract(CONTRACT.height, CONTRACT.width)
    assert runner.contract == (defaults if metadata == "none" else CONTRACT)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    difference = np.abs(runner(images) - tiny.expected(images, CONTRACT))
    assert difference.max() <= 1e-6, difference.max()


def test_a_table_has_the_fields_of_the_schema_only() -> None:
    with pytest.raises(ValueError, match="ImageSize has no field depth"):
        Table("ImageSize", {"depth": np.uint32(3)})


def test_equal_objects_are_written_once() -> None:
    def custom(*names: str) -> bytes:
        tables = tuple(Table("CustomMetadata", {"name": n, "data": b"x" * 64}) for n in names)
        return encode(Table("SubGraphMetadata", {"custom_metadata": tables}), b"M001")

    assert len(custom("a", "a", "a")) - len(custom("a")) <= 16  # two more offsets
    assert len(custom("a", "b")) - len(custom("a")) < 64  # the data are shared
    first = Reader(custom("a"), "SubGraphMetadata").only("custom_metadata", "CustomMetadata")
    assert (first.content("name"), first.content("data")) == (b"a", b"x" * 64)


def test_a_contract_the_standard_has_no_words_for() -> None:
    with pytest.raises(ValueError, match="minmax255"):
        segmenter_metadata(PUBLIC)
    assert ExportRequest("tflite", "float32").metadata_for(PUBLIC) == "contract"
    with pytest.raises(InputError, match=r"cannot describe normalization 'minmax255'.*contract"):
        ExportRequest("tflite", "float32", metadata="full").metadata_for(PUBLIC)


@pytest.mark.parametrize(
    ("format", "precision", "asked", "expected"),
    [
        ("tflite", "float32", {}, "full"),
        ("tflite", "float16", {}, "full"),
        ("tflite", "int8", {}, "contract"),  # uint8 input
        ("tflite", "int8", {"io": "float32"}, "full"),
        ("tflite", "int8", {"metadata": "full"}, "full"),
        ("tflite", "float32", {"metadata": "none"}, "none"),
        ("onnx", "float32", {}, "contract"),
        ("coreml", "float16", {}, "contract"),
    ],
)
def test_which_one_it_is(format: str, precision: str, asked: Any, expected: str) -> None:
    assert ExportRequest(format, precision, **asked).metadata_for(CONTRACT) == expected


@pytest.mark.parametrize(
    ("format", "metadata", "words"),
    [
        ("tflite", "all", "--metadata must be one of full, contract, none, got 'all'"),
        ("onnx", "none", "--metadata none is for format tflite"),
    ],
)
def test_refused(format: str, metadata: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExportRequest(format, "float32", metadata=metadata)


def test_the_exporter_passes_it_on(tmp_path: Path) -> None:
    weights = tiny.random_weights(tmp_path / "w.safetensors", seed=5, size=32)
    artifact = export("tflite", weights=weights, out=tmp_path, check=False, metadata="none")
    assert artifact.report["metadata"] == "none"
    assert entries_of(artifact.path.read_bytes()) == {}
    assert "metadata" not in artifact.report["bytes_by_kind"]
