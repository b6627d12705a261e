"""Pictures and masks from files: any usual format in, one array layout out.

Two rules hold for every reader. The size in the header is checked before a pixel is
decoded, and whatever Pillow raises on bad bytes becomes an InputError with the path.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from egeunet.model.data.resize import resize_image, resize_mask
from egeunet.model.errors import EgeunetError, InputError

__all__ = [
    "ImageHeader",
    "read_header",
    "read_image",
    "read_mask",
    "resize_image",
    "resize_mask",
]

#: What is opened (JPEG includes MPO, which some phones write into a .jpg). Naming the
#: formats keeps Pillow's rarer decoders away from files of unknown origin.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
#: File name endings of those formats, lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
#: The largest picture that is decoded (about 300 MB as RGB); ISIC's largest has 30 M.
MAX_PIXELS = 100_000_000

# Pillow warns from 89 M pixels on; warning filters are global, so one thread at a time.
_HEADER_LOCK = threading.Lock()


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about itself. ``width`` and ``height`` are those after EXIF rotation."""

    width: int
    height: int
    mode: str
    format: str


def read_header(path: str | Path) -> ImageHeader:
    """Read format, colour mode and size without decoding pixels.

    Raises:
        InputError: see :func:`read_image`; damage behind the header goes unseen.
    """
    with _opened(Path(path)) as image:
        width, height = image.size
        if image.format == "TIFF":  # newer Pillow swaps the sides of a rotated TIFF itself
            width, height = image.tag_v2[256], image.tag_v2[257]  # type: ignore[attr-defined]
        if image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
            width, height = height, width
        return ImageHeader(int(width), int(height), image.mode, str(image.format))


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a JPEG, PNG, BMP, TIFF or WebP as RGB.

    Gray is repeated over three channels, palettes are looked up, CMYK is converted, 16-bit
    gray is scaled by 255/65535 with rounding, EXIF rotation is applied; of several frames
    the first is taken; colour profiles are ignored (as the public training code does).
    Transparent pixels are composited over black: dermatoscopes leave black around their
    field of view (the top left corner is black in 11 % of the 1,500 training images of ISIC
    2017, white in 0.3 %), so black is what the network knows as "nothing here".

    Returns:
        uint8 (H, W, 3), 0..255, RGB.

    Raises:
        InputError: missing, a folder, empty, truncated, not one of the formats, above
            ``MAX_PIXELS`` (refused from its header), or in a pixel type without a known range.
    """
    path = Path(path)
    with _opened(path) as image:
        image = _upright(image)
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image.convert("RGBA"))
        elif image.mode.startswith("I"):
            wide = _sixteen_bits(image, path).astype(np.uint32)
            gray = ((wide + 128) // 257).astype(np.uint8)  # round(v * 255 / 65535), (H, W)
            return np.repeat(gray[:, :, None], 3, axis=2)
        elif image.mode == "F":
            raise InputError(f"{path}: float pixels have no known range; save it with 8 bits")
        return np.array(image.convert("RGB"), dtype=np.uint8)


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read a lesion mask of any of the formats.

    A pixel's value is its brightest channel (palettes are looked up, so the dark red of a
    PASCAL VOC palette counts; alpha multiplies). The file's highest value M then decides:

    - 1-bit files: set pixels are lesion;
    - M <= 1: a 0/1 mask, 1 is lesion;
    - 8 bits (or 16 bits with M <= 255): lesion from 128 on;
    - 16 bits: lesion from 32768 on.

    A mask whose M lies between 1 and half of the range would come out empty and is refused
    (class numbers, say), except in a JPEG, whose compression leaves such values.

    Returns:
        bool (H, W), True is lesion.

    Raises:
        InputError: as :func:`read_image`, and for values that fit no rule.
    """
    path = Path(path)
    with _opened(path) as image:
        lossy = image.format in ("JPEG", "MPO")
        image = _upright(image)
        if image.mode == "1":
            return np.array(image, dtype=np.bool_)
        if image.mode == "F":
            raise InputError(f"{path}: a mask of float pixels; save it as 0/255 with 8 bits")
        values = _brightest(image, path)
    highest = int(values.max())
    if highest <= 1 and not lossy:
        return np.asarray(values == 1)
    half = 128 if highest <= 255 else 32768
    if highest < half and not lossy:
        raise InputError(
            f"{path}: not a mask: its highest value is {highest}; expected 0/1, or 0/255 "
            f"({half} and above is lesion)"
        )
    return np.asarray(values >= half)


def _brightest(image: Image.Image, path: Path) -> NDArray[np.uint16]:
    """The brightest channel of every pixel, times alpha where there is one, (H, W)."""
    if image.mode.startswith("I"):
        return _sixteen_bits(image, path)
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"), dtype=np.uint16)  # (H, W, 4)
        return (pixels[:, :, :3].max(axis=2) * pixels[:, :, 3] + 127) // 255
    if image.mode == "L":
        return np.asarray(image, dtype=np.uint16)
    return np.asarray(image.convert("RGB")).max(axis=2).astype(np.uint16)


def _sixteen_bits(image: Image.Image, path: Path) -> NDArray[np.uint16]:
    values = np.asarray(image)  # uint16 or int32, (H, W)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{path}: pixel values from {values.min()} to {values.max()} fit no 16-bit range; "
            "save it with 8 or 16 bits"
        )
    values = values.astype(np.uint16)
    # Pillow inverts TIFFs whose zero is white for 8 bits only.
    if getattr(image, "tag_v2", {}).get(262) == 0:
        values = np.uint16(65535) - values
    return values


def _upright(image: Image.Image) -> Image.Image:
    """Decode and apply the EXIF rotation."""
    image.load()
    tags = getattr(image, "tag_v2", None)
    image = ImageOps.exif_transpose(image)
    if tags is not None:
        image.tag_v2 = tags  # type: ignore[attr-defined]  # a rotated copy loses them
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open ``path``, check its header and turn whatever goes wrong into an InputError."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected an image file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: empty file (0 bytes)")
        with path.open("rb") as file:
            yield _checked(file, path)
    except (EgeunetError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            start = file.read(12)
        raise InputError(
            f"{path}: not a JPEG, PNG, BMP, TIFF or WebP image (it starts with {start!r})"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {_too_large(str(error))}") from error
    except Exception as error:  # decoders raise whatever the bytes provoke
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: cannot be decoded ({reason}); export it again") from error


def _checked(file: IO[bytes], path: Path) -> Image.Image:
    """The opened image, its size within bounds and its EXIF block parsed."""
    with _HEADER_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file, formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{path}: {_too_large(f'{width}x{height} pixels')}")
        if width < 1 or height < 1:
            raise InputError(f"{path}: has no pixels ({width}x{height})")
        image.getexif()
    return image


def _too_large(seen: str) -> str:
    return f"too large: {seen}; at most {MAX_PIXELS:,} pixels are decoded, so scale it down"
