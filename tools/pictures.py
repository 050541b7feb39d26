"""Pictures with known pixels and facts, for `make demo` and for tests.

Needs only Pillow, because the demo runs without the development tools.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from PIL import Image, TiffImagePlugin
from PIL.ExifTags import IFD, Base

RED: Final = (220, 30, 30)
GREEN: Final = (30, 190, 60)
BLUE: Final = (40, 60, 220)
YELLOW: Final = (230, 220, 40)
CORNERS: Final = (RED, GREEN, BLUE, YELLOW)
"""Upper left, upper right, lower left, lower right of `quadrants`."""

Encoder = Callable[[Image.Image, bytes], bytes]


# --- pixels ---------------------------------------------------------------------------------------


def quadrants(width: int = 320, height: int = 200) -> Image.Image:
    """Return four colours, one in each corner: they reveal rotation and mirroring."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(CORNERS):
        left, top = (index % 2) * width // 2, (index // 2) * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours in the middle of the four quarters, in the order of `CORNERS`."""
    width, height = image.size
    shown = image.convert("RGB")
    found = []
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            pixel = shown.getpixel((x, y))
            assert isinstance(pixel, tuple)
            found.append(tuple(int(value) for value in pixel))
    return found


def close(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]], by: int = 24) -> bool:
    """Return whether every colour is at most `by` from the expected one in every channel."""
    return len(found) == len(expected) and all(
        abs(a - b) <= by
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    )


_STORED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def as_stored(upright: Image.Image, orientation: int) -> Image.Image:
    """Return the pixels as a camera in that orientation stores them."""
    return upright.transpose(_STORED[orientation]) if orientation in _STORED else upright


# --- facts ----------------------------------------------------------------------------------------


def ratio(text: str) -> TiffImagePlugin.IFDRational:
    value = Fraction(text)
    return TiffImagePlugin.IFDRational(value.numerator, value.denominator)


def degrees(value: float) -> tuple[TiffImagePlugin.IFDRational, ...]:
    """Return degrees, minutes and seconds of a non-negative angle."""
    whole, rest = divmod(round(value * 3600 * 10**6), 3600 * 10**6)
    minutes, seconds = divmod(rest, 60 * 10**6)
    return ratio(str(whole)), ratio(str(minutes)), ratio(f"{seconds}/{10**6}")


@dataclass(frozen=True, slots=True)
class Camera:
    """Tags that a camera writes into its three directories, and the expected facts.

    `facts` without the orientation, which is the picture's; `location` None where the camera does
    not know it.
    """

    base: Mapping[int, Any]
    detail: Mapping[int, Any]
    place: Mapping[int, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    location: Mapping[str, Any] | None = None

    def exif(self, orientation: int = 1, *, gps: bool = True) -> bytes:
        """Return the block of bytes that goes into a file."""
        made = Image.Exif()
        made.update(dict(self.base))
        made[Base.Orientation] = orientation
        made.get_ifd(IFD.Exif).update(self.detail)
        if gps and self.place:
            made.get_ifd(IFD.GPSInfo).update(self.place)
        return made.tobytes()


# --- one encoder for each format ------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **parameters: Any) -> bytes:
    """Return the bytes of a file of Pillow's format `kind`."""
    output = io.BytesIO()
    image.save(output, kind, **parameters)
    return output.getvalue()


ENCODERS: Final[Mapping[str, Encoder]] = {
    "jpeg": lambda image, exif: saved(image, "JPEG", quality=92, exif=exif),
    "png": lambda image, exif: saved(image, "PNG", exif=exif),
    "webp": lambda image, exif: saved(image, "WEBP", quality=92, exif=exif),
    "tiff": lambda image, exif: saved(image, "TIFF", exif=exif),
    "avif": lambda image, exif: saved(image, "AVIF", quality=90, speed=8, exif=exif),
}
"""Formats that can carry EXIF and that Pillow writes."""

HEIC_ORIENTATION: Final = 6


def ready_made_heic() -> bytes:
    """Return `quadrants(640, 400)` in orientation `HEIC_ORIENTATION`, with the EXIF of
    `tools.cameras.PHONE`. It is the file `tools/quadrants.heic`, because Pillow cannot write HEIC.
    """
    return Path(__file__).with_name("quadrants.heic").read_bytes()


def png_of_rows(width: int, height: int, *, depth: int, colour_type: int, rows: bytes) -> bytes:
    """Return a PNG of these filtered rows, for what Pillow cannot write (PNG, sections 11.2.1 and
    9).
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"".join((
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", zlib.compress(rows)),
        png_chunk(b"IEND", b""),
    ))  # fmt: skip


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def sixteen_bit_png(image: Image.Image) -> bytes:
    """Return the picture with 16 bits per colour; the lower byte is pseudo-noise."""
    width, height = image.size
    data = image.convert("RGB").tobytes()
    rows = b"".join(
        b"\0" + bytes(v for one in data[y * width * 3 : (y + 1) * width * 3] for v in (one, 7))
        for y in range(height)
    )
    return png_of_rows(width, height, depth=16, colour_type=2, rows=rows)


def sixteen_bit_grey(image: Image.Image) -> Image.Image:
    """Return a grey picture with 16 bits, whose upper and lower byte are equal."""
    grey = image.convert("L").tobytes()
    return Image.frombytes("I;16", image.size, bytes(v for one in grey for v in (one, one)))


def animated(first: Image.Image, kind: str) -> bytes:
    """Return three frames; only the first has to be shown."""
    others = [Image.new("RGB", first.size, colour) for colour in ("black", "white")]
    return saved(first, kind, save_all=True, append_images=others, duration=100)
