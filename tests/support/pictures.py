"""Pictures of every kind that the processor takes, and of those that it has to refuse.

Made, not shipped: what a test expects stands beside what it made.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import pillow_heif
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.ExifTags import GPS, IFD, Base

from bench.load.photos import photo as camera_photo

RED: Final = (220, 30, 30)
GREEN: Final = (30, 190, 60)
BLUE: Final = (40, 60, 220)
YELLOW: Final = (230, 220, 40)
CORNERS: Final = (RED, GREEN, BLUE, YELLOW)
"""Upper left, upper right, lower left, lower right of `quadrants`."""

GPS_CANARY: Final = (51.4778925, -171.2345678)
"""Planted by `exif`; greps look for `CANARY_WORDS`."""
CANARY_WORDS: Final = ("51.47", "171.2", "canary-serial-90125")
"""In decimal, and a serial number that no fact carries."""

Encoder = Callable[[Image.Image, bytes], bytes]


def quadrants(width: int = 320, height: int = 200) -> Image.Image:
    """Four colours, one in each corner: says which way up it is, and whether it is mirrored."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(CORNERS):
        left, top = (index % 2) * width // 2, (index // 2) * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, in the order of `CORNERS`."""
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
    """Whether every colour is at most `by` from the expected one in every channel."""
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
    """The pixels as a camera held that way stores them."""
    return upright.transpose(_STORED[orientation]) if orientation in _STORED else upright


def exif(orientation: int = 1, *, gps: bool = True) -> bytes:
    """What a camera writes, every field that the processor reads among it (`EXIF_FACTS`)."""
    made = Image.Exif()
    made[Base.Make] = "Kyocera\0\0 "
    made[Base.Model] = " Contax\tN Digital"
    made[Base.Software] = "Firmware 1.2"
    made[Base.DateTime] = "2024:05:07 09:10:11"
    made[Base.Orientation] = orientation
    detail = made.get_ifd(IFD.Exif)
    detail[Base.DateTimeOriginal] = "2024:05:06 07:08:09"
    detail[Base.SubsecTimeOriginal] = "123"
    detail[Base.OffsetTimeOriginal] = "-03:30"
    detail[Base.DateTimeDigitized] = "2024:05:06 07:08:10"
    detail[Base.OffsetTime] = "+00:00"
    detail[Base.LensMake] = "Carl Zeiss"
    detail[Base.LensModel] = "Planar 1,4/50"
    detail[Base.BodySerialNumber] = CANARY_WORDS[2]
    detail[Base.ExposureTime] = _ratio("1/250")
    detail[Base.ExposureBiasValue] = _ratio("-2/3")
    detail[Base.FNumber] = _ratio("14/10")
    detail[Base.ISOSpeedRatings] = 400
    detail[Base.FocalLength] = _ratio("50")
    detail[Base.FocalLengthIn35mmFilm] = 50
    detail[Base.Flash] = 0x19
    if gps:
        latitude, longitude = GPS_CANARY
        made.get_ifd(IFD.GPSInfo).update({
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: _degrees(latitude),
            GPS.GPSLongitudeRef: "W",
            GPS.GPSLongitude: _degrees(-longitude),
            GPS.GPSAltitudeRef: b"\x01",
            GPS.GPSAltitude: _ratio("425/100"),
            GPS.GPSImgDirection: _ratio("2705/10"),
            GPS.GPSDateStamp: "2024:05:06",
            GPS.GPSTimeStamp: (_ratio("10"), _ratio("38"), _ratio("9")),
        })  # fmt: skip
    return made.tobytes()


EXIF_FACTS: Final[dict[str, Any]] = {
    "taken_at": "2024-05-06T07:08:09.123-03:30",
    "digitized_at": "2024-05-06T07:08:10",
    "modified_at": "2024-05-07T09:10:11+00:00",
    "camera_make": "Kyocera",
    "camera_model": "Contax N Digital",
    "lens_make": "Carl Zeiss",
    "lens_model": "Planar 1,4/50",
    "software": "Firmware 1.2",
    "exposure_seconds": 0.004,
    "exposure_bias_ev": -0.666666667,
    "f_number": 1.4,
    "iso": 400,
    "focal_length_mm": 50.0,
    "focal_length_35mm": 50.0,
    "flash_fired": True,
    "orientation": 1,
}
"""What `exif()` comes to."""

GPS_FACTS: Final[dict[str, Any]] = {
    "latitude": GPS_CANARY[0],
    "longitude": GPS_CANARY[1],
    "altitude_metres": -4.25,
    "direction_degrees": 270.5,
    "taken_at": "2024-05-06T10:38:09Z",
}


def _ratio(text: str) -> TiffImagePlugin.IFDRational:
    value = Fraction(text)
    return TiffImagePlugin.IFDRational(value.numerator, value.denominator)


def _degrees(value: float) -> tuple[TiffImagePlugin.IFDRational, ...]:
    degrees, rest = divmod(round(value * 3600 * 10**6), 3600 * 10**6)
    minutes, seconds = divmod(rest, 60 * 10**6)
    return _ratio(str(degrees)), _ratio(str(minutes)), _ratio(f"{seconds}/{10**6}")


# --- one encoder for each format ------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **parameters: Any) -> bytes:
    """The bytes of a file of Pillow's format `kind`."""
    output = io.BytesIO()
    image.save(output, kind, **parameters)
    return output.getvalue()


def heic(image: Image.Image, exif_bytes: bytes = b"") -> bytes:
    output = io.BytesIO()
    made = pillow_heif.from_pillow(image)
    made.save(output, quality=90, exif=exif_bytes or None)
    return output.getvalue()


ENCODERS: Final[dict[str, Encoder]] = {
    "jpeg": lambda image, exif: saved(image, "JPEG", quality=92, exif=exif),
    "png": lambda image, exif: saved(image, "PNG", exif=exif),
    "webp": lambda image, exif: saved(image, "WEBP", quality=92, exif=exif),
    "tiff": lambda image, exif: saved(image, "TIFF", exif=exif),
    "avif": lambda image, exif: saved(image, "AVIF", quality=90, speed=8, exif=exif),
    "heic": heic,
}
"""Those that can carry EXIF."""


def photo(width: int = 4000, height: int = 3000, seed: int = 1) -> bytes:
    """A JPEG that costs what a camera's does, with the EXIF of `exif`; 12 megapixels, some MB."""
    return camera_photo(width, height, seed, exif=exif())


def swapping_profile() -> bytes:
    """A colour profile in which red and blue have changed places: sRGB's, two tags exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    names = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    for one, other in ((b"rXYZ", b"bXYZ"), (b"rTRC", b"bTRC")):
        data[names[one] : names[one] + 4], data[names[other] : names[other] + 4] = other, one
    return bytes(data)


# --- what is refused ------------------------------------------------------------------------------


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises that many pixels."""
    return png_of_rows(width, height, depth=8, colour_type=2, rows=bytes(1000))


def with_png_checksums(data: bytes) -> bytes:
    """A PNG whose chunks were changed in place gets its checksums right; others stay."""
    if not data.startswith(b"\x89PNG"):
        return data
    made, at = data[:8], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        made += _chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return made


def png_bomb(megabytes: int = 64) -> bytes:
    """A small PNG with a text that unpacks into that many megabytes."""
    text = b"Comment\0\0" + zlib.compress(bytes(megabytes << 20), 9)
    whole = saved(quadrants(8, 8), "PNG")
    return whole[:33] + _chunk(b"zTXt", text) + whole[33:]


def png_of_rows(width: int, height: int, *, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG of these filtered rows, for what Pillow cannot write (PNG, sections 11.2.1 and 9)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"".join((
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(rows)),
        _chunk(b"IEND", b""),
    ))  # fmt: skip


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def gif_claiming(width: int, height: int) -> bytes:
    """A GIF whose screen is that large and whose frame is not."""
    one = saved(Image.new("P", (8, 8)), "GIF")
    return one[:6] + struct.pack("<HH", width, height) + one[10:]


def gif_of_frames(count: int) -> bytes:
    """An animation of so many frames, 25 bytes or so each."""
    one = saved(Image.new("P", (8, 8)), "GIF")
    frame = one[one.index(b"\x2c", 13 + (3 << ((one[10] & 7) + 1))) : -1]
    start = one[: one.index(frame)]
    return start + frame * count + b"\x3b"


def zip_behind(picture: bytes) -> bytes:
    """The picture, which is an archive as well."""
    output = io.BytesIO(picture)
    with zipfile.ZipFile(output, "a") as archive:
        archive.writestr("payload.txt", "run me")
    return output.getvalue()
