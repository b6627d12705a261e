"""Reading pictures and masks of every format and mode, and refusing the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from egeunet.model.data.images import read_header, read_image, read_mask
from egeunet.model.errors import InputError

SMOOTH = np.stack(
    np.broadcast_arrays(
        np.linspace(20, 220, 40)[None, :], np.linspace(200, 60, 24)[:, None], 128.0
    ),
    axis=2,
).astype(np.uint8)  # (24, 40, 3)
BLOB = np.hypot(*np.mgrid[-12:12, -20:20]) < 8  # bool (24, 40)


# --- formats ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "A.PNG", "ä b.png"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(SMOOTH).save(tmp_path / name, **options)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, SMOOTH)


def test_jpeg_is_close_and_its_name_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / "a.png", "JPEG", quality=95)
    difference = np.abs(read_image(tmp_path / "a.png").astype(int) - SMOOTH)
    assert difference.mean() < 2.0, f"mean {difference.mean()}, max {difference.max()}"
    assert read_header(tmp_path / "a.png").format == "JPEG"


def test_mpo_of_a_phone_gives_its_first_frame(tmp_path: Path) -> None:
    first = Image.fromarray(SMOOTH)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[ImageOps.invert(first)])
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - SMOOTH).mean() < 8.0


# --- modes -----------------------------------------------------------------------------


def test_gray_is_repeated_over_the_channels(tmp_path: Path) -> None:
    Image.fromarray(SMOOTH[:, :, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), SMOOTH[:, :, :1].repeat(3, 2))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(BLOB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[:, :, 1], BLOB * 255)


def test_palette_is_looked_up(tmp_path: Path) -> None:
    picture = Image.fromarray(SMOOTH).quantize(32)
    picture.save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").mode == "P"
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png"), np.asarray(picture.convert("RGB"))
    )


def test_transparent_palette_entries_become_black(tmp_path: Path) -> None:
    picture = Image.fromarray(BLOB.astype(np.uint8)).convert("P")
    picture.putpalette([200, 100, 50, 10, 20, 30] + [0] * 762)
    picture.save(tmp_path / "a.png", transparency=0)
    image = read_image(tmp_path / "a.png")
    assert (image[~BLOB] == 0).all()
    assert (image[BLOB] == (10, 20, 30)).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_over_black(tmp_path: Path, mode: str) -> None:
    alpha = np.where(BLOB, 255, 51).astype(np.uint8)  # 51 = one fifth
    picture = Image.fromarray(SMOOTH).convert(mode)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    opaque = np.asarray(Image.fromarray(SMOOTH).convert(mode[:-1]).convert("RGB"))
    np.testing.assert_array_equal(image[BLOB], opaque[BLOB])
    assert np.abs(image[~BLOB] - opaque[~BLOB] / 5).max() <= 1.0


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_is_converted(tmp_path: Path, name: str) -> None:
    Image.fromarray(SMOOTH).convert("CMYK").save(tmp_path / name)
    assert read_header(tmp_path / name).mode == "CMYK"
    difference = np.abs(read_image(tmp_path / name).astype(int) - SMOOTH)
    assert difference.mean() < 3.0, f"mean {difference.mean()}, max {difference.max()}"


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    wide = np.linspace(0, 65535, 960).astype(np.uint16).reshape(24, 40)
    Image.fromarray(wide).save(tmp_path / name)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image[:, :, 0], np.floor(wide / 257 + 0.5))
    assert image.min() == 0
    assert image.max() == 255


def test_sixteen_bit_tiff_whose_zero_is_white_is_inverted(tmp_path: Path) -> None:
    wide = np.linspace(0, 65535, 960).astype(np.uint16).reshape(24, 40)
    Image.fromarray(wide).save(tmp_path / "a.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif")[:, :, 0], np.floor((65535 - wide) / 257 + 0.5)
    )


def test_float_and_32_bit_pixels_are_refused_with_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(InputError, match=r"f\.tif: float pixels"):
        read_image(tmp_path / "f.tif")
    with pytest.raises(InputError, match=r"i\.tif: pixel values from 70000 to 70000"):
        read_image(tmp_path / "i.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_exif_rotation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    source = Image.fromarray(SMOOTH)
    exif = Image.Exif()
    exif[0x0112] = orientation
    source.save(tmp_path / name, exif=exif)
    plain = Image.fromarray(SMOOTH)
    plain.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(plain))
    image = read_image(tmp_path / name)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < (6.0 if name == "a.jpg" else 0.001)
    header = read_header(tmp_path / name)
    assert (header.height, header.width) == expected.shape[:2]


# --- masks -----------------------------------------------------------------------------


def save_mask(path: Path, kind: str) -> None:
    """BLOB in one of the ways in which people save masks."""
    if kind == "1-bit":
        picture = Image.fromarray(BLOB)
    elif kind == "0/1":
        picture = Image.fromarray(BLOB.astype(np.uint8))
    elif kind == "0/255":
        picture = Image.fromarray(BLOB.astype(np.uint8) * 255)
    elif kind == "soft":
        picture = Image.fromarray(np.where(BLOB, 128, 127).astype(np.uint8))
    elif kind == "rgb":
        picture = Image.fromarray(BLOB.astype(np.uint8)[:, :, None].repeat(3, 2) * 255)
    elif kind in ("palette", "palette 0/1"):
        picture = Image.fromarray(BLOB.astype(np.uint8)).convert("P")
        colour = [128, 0, 0] if kind == "palette" else [1, 1, 1]
        picture.putpalette([0, 0, 0, *colour] + [0] * 762)
    elif kind == "alpha":
        picture = Image.new("RGBA", BLOB.shape[::-1], (255, 255, 255, 0))
        picture.putalpha(Image.fromarray(BLOB.astype(np.uint8) * 255))
    else:
        top = {"16-bit 0/65535": 65535, "16-bit 0/255": 255, "16-bit 0/1": 1}[kind]
        picture = Image.fromarray(BLOB.astype(np.uint16) * np.uint16(top))
    picture.save(path)


@pytest.mark.parametrize(
    "kind",
    [
        "1-bit",
        "0/1",
        "0/255",
        "soft",
        "rgb",
        "palette",
        "palette 0/1",
        "alpha",
        "16-bit 0/65535",
        "16-bit 0/255",
        "16-bit 0/1",
    ],
)
def test_masks_of_every_kind_mean_the_same(tmp_path: Path, kind: str) -> None:
    save_mask(tmp_path / "m.png", kind)
    mask = read_mask(tmp_path / "m.png")
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, BLOB)


def test_jpeg_mask_survives_its_compression(tmp_path: Path) -> None:
    Image.fromarray(BLOB.astype(np.uint8) * 255).save(tmp_path / "m.jpg", quality=90)
    assert (read_mask(tmp_path / "m.jpg") != BLOB).mean() < 0.02


@pytest.mark.parametrize(("value", "lesion"), [(0, False), (255, True), (1, True)])
def test_constant_masks(tmp_path: Path, value: int, lesion: bool) -> None:
    Image.new("L", (5, 4), value).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.shape == (4, 5)
    assert (mask == lesion).all()


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 5), (np.uint8, 127), (np.uint16, 3000)])
def test_a_mask_that_would_come_out_empty_is_refused(
    tmp_path: Path, dtype: type, value: int
) -> None:
    Image.fromarray(BLOB.astype(dtype) * dtype(value)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=rf"m\.png: not a mask: its highest value is {value}"):
        read_mask(tmp_path / "m.png")
