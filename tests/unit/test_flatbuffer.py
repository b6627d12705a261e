"""The flatbuffer builder: one object per content, aligned data, nothing lost."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.export.tflite.flatbuffer import SharingBuilder


def test_equal_objects_are_one() -> None:
    b = SharingBuilder()
    shape = b.vector([1, 2, 3], "int32")
    assert b.vector(np.array([1, 2, 3]), "int32") == shape
    assert b.vector([1, 2, 3], "int64") != shape
    assert b.vector([1, 2], "int32") != shape
    assert b.text("image") == b.text("image") != b.text("mask")
    assert b.data(b"12345") == b.data(b"12345") != b.data(b"12346")
    assert b.tables([shape]) == b.tables([shape]) != b.tables([shape, shape])
    tensor = b.table("Tensor", Shape=shape, Type=schema.TensorType.INT8)
    assert b.table("Tensor", Type=schema.TensorType.INT8, Shape=shape) == tensor
    assert b.table("Tensor", Shape=shape, Type=schema.TensorType.UINT8) != tensor


def test_the_same_fields_of_another_table_are_another_object() -> None:
    b = SharingBuilder()
    assert b.table("AddOptions") != b.table("SubOptions")


def test_a_field_that_is_none_is_left_out() -> None:
    b = SharingBuilder()
    assert b.table("Buffer", Data=None) == b.table("Buffer")


def file_with(chunks: list[bytes], text: str, b: SharingBuilder) -> bytes:
    """A model whose buffers are ``chunks``, with ``text`` before each to shift the offsets."""
    buffers = []
    for number, chunk in enumerate(chunks):
        b.text(text + "x" * number)
        buffers.append(b.table("Buffer", Data=b.data(chunk)))
    model = b.table("Model", Version=3, Buffers=b.tables(buffers), Description=b.text(text))
    return b.finish(model, b"TFL3")


@settings(deadline=None, max_examples=30)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=70), max_size=8), text=st.text("aé", max_size=9)
)
def test_data_comes_back_and_is_aligned_in_the_file(chunks: list[bytes], text: str) -> None:
    data = file_with(chunks, text, SharingBuilder())
    assert data[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(data, 0)
    assert model.Description() == text.encode()
    assert model.BuffersLength() == len(chunks)
    for index, chunk in enumerate(chunks):
        table = model.Buffers(index)
        assert bytes(table.DataAsNumpy()) == chunk
        field = table._tab.Offset(4)  # the schema's first field: where the bytes start
        assert table._tab.Vector(field) % 16 == 0, f"buffer {index} of {len(chunk)} bytes"


def test_content_that_repeats_costs_an_offset_only() -> None:
    chunk = bytes(range(200))
    once = file_with([chunk], "", SharingBuilder())
    # Other texts than in file_with would be written, so count with one text for all.
    b = SharingBuilder()
    table = b.table("Buffer", Data=b.data(chunk))
    b.text("")
    model = b.table("Model", Version=3, Buffers=b.tables([table] * 9), Description=b.text(""))
    assert len(b.finish(model, b"TFL3")) - len(once) <= 8 * 4 + 16


def test_same_calls_same_bytes() -> None:
    chunks = [b"a" * 33, b"bb", b"a" * 33]
    assert file_with(chunks, "t", SharingBuilder()) == file_with(chunks, "t", SharingBuilder())


def test_vectors_of_numbers_come_back_aligned() -> None:
    b = SharingBuilder()
    scale, zero_point = np.array([0.5, 0.25, 3], np.float32), np.array([-3, 0, 7], np.int64)
    table = b.table(
        "QuantizationParameters",
        Scale=b.vector(scale, "float32"),
        ZeroPoint=b.vector(zero_point, "int64"),
        QuantizedDimension=3,
    )
    read = schema.QuantizationParameters.GetRootAs(b.finish(table, b"TFL3"), 0)
    assert read.ScaleAsNumpy().tolist() == scale.tolist()
    assert read.ZeroPointAsNumpy().tolist() == zero_point.tolist()
    assert read.QuantizedDimension() == 3
    assert read._tab.Vector(read._tab.Offset(10)) % 8 == 0  # 64-bit numbers on their boundary
