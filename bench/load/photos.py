"""JPEGs with the decoding cost of camera photos: soft shapes, grain, camera-like EXIF."""

from __future__ import annotations

import io
import random
from typing import Final

from PIL import Image, ImageFilter
from PIL.ExifTags import IFD, Base

_TILE: Final = 512
_GRAIN: Final = 0.12


def photo(width: int, height: int, seed: int, *, quality: int = 90, exif: bytes = b"") -> bytes:
    """Return a JPEG of that size, equal for equal seeds; 12 megapixels are some MB."""
    dice = random.Random(seed)
    small = Image.frombytes("RGB", (200, 150), dice.randbytes(200 * 150 * 3))
    shapes = small.filter(ImageFilter.GaussianBlur(2)).resize((width, height))
    tile = Image.frombytes("L", (_TILE, _TILE), dice.randbytes(_TILE * _TILE))
    grain = Image.new("L", (width, height))
    for left in range(0, width, _TILE):
        for top in range(0, height, _TILE):
            grain.paste(tile, (left, top))
    grain = grain.filter(ImageFilter.GaussianBlur(0.6))
    output = io.BytesIO()
    picture = Image.blend(shapes, grain.convert("RGB"), _GRAIN)
    picture.save(output, "JPEG", quality=quality, exif=exif or _exif())
    return output.getvalue()


def distinct(content: bytes, number: int, size: int = 0) -> bytes:
    """Return the same picture as other bytes, by a comment: encoding another one takes a second.

    Args:
        size: bytes to reach; decoders ignore what follows the picture.
    """
    text = f"photo {number}".encode()
    # JPEG: after the two bytes of the start, a comment is a marker, its length, and text.
    comment = b"\xff\xfe" + (2 + len(text)).to_bytes(2, "big") + text
    return (content[:2] + comment + content[2:]).ljust(size, b"\0")


def _exif() -> bytes:
    exif = Image.Exif()
    exif[Base.Make] = "Sluice"
    exif[Base.Orientation] = 1
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "2024:05:06 07:08:09"
    return exif.tobytes()
