"""Files that are no pictures, or no longer, or far too large: one named line each."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from egeunet.model.data.images import MAX_PIXELS, read_header, read_image, read_mask
from egeunet.model.errors import InputError

NOISE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG of that size in its header, whatever stands in its data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(data)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD = [
    "missing.png",
    "folder.png",
    "empty.png",
    "text.png",
    "random.png",
    "no_data.png",
    "fifo.png",
]
BAD += ["half.jpg", "half.png", "half.bmp", "half.tif", "half.webp", "header.png", "gif.png"]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("hello, I am a text file\n")
    (folder / "random.png").write_bytes(np.random.default_rng(1).bytes(5000))
    (folder / "no_data.png").write_bytes(png(64, 64))
    (folder / "header.png").write_bytes(png(64, 64)[:30])
    NOISE.save(folder / "gif.png", "GIF")
    for kind in ("jpg", "png", "bmp", "tif", "webp"):
        NOISE.save(folder / f"whole.{kind}")
        data = (folder / f"whole.{kind}").read_bytes()
        (folder / f"half.{kind}").write_bytes(data[: len(data) // 2])
    return folder


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.filterwarnings("error")
def test_bad_files_are_named_in_one_line(bad: Path, name: str, read: object) -> None:
    with pytest.raises(InputError) as caught:
        read(bad / name)  # type: ignore[operator]
    message = str(caught.value)
    assert message.startswith(f"{bad / name}: "), message
    assert "\n" not in message
    assert len(message) < len(str(bad)) + 200


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (10_001, 10_000), (2**31 - 1, 2)])
@pytest.mark.filterwarnings("error")
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(width, height))
    tracemalloc.start()
    with pytest.raises(InputError, match=rf"bomb\.png: too large: .*{MAX_PIXELS:,}"):
        read_image(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000, f"{peak} bytes at most for a header"
    with pytest.raises(InputError, match="too large"):
        read_header(tmp_path / "bomb.png")


def test_no_pixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.png").write_bytes(png(0, 7))
    with pytest.raises(InputError, match=r"zero\.png: "):
        read_image(tmp_path / "zero.png")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_cut_anywhere_never_gives_other_pixels(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut"
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP"]))
    NOISE.save(path, kind)
    raw, whole = path.read_bytes(), read_image(path)
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    try:
        image = read_image(path)
    except InputError as error:
        assert str(path) in str(error)
    else:  # only what follows the last pixel is missing
        np.testing.assert_array_equal(image, whole)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_flipped_bytes_give_pixels_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP"]))
    NOISE.save(path, kind)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        image = read_image(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)
