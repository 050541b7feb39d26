"""Generated pictures that the processor accepts or must refuse, with the expected results.

Re-exports the pictures of `tools/pictures.py`, which the demo uses too.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

import pillow_heif
from PIL import Image, ImageCms
from PIL.ExifTags import GPS, Base

from bench.load.photos import photo as camera_photo
from tools.pictures import BLUE as BLUE
from tools.pictures import CORNERS as CORNERS
from tools.pictures import ENCODERS as PILLOW_ENCODERS
from tools.pictures import GREEN as GREEN
from tools.pictures import RED as RED
from tools.pictures import YELLOW as YELLOW
from tools.pictures import Camera, Encoder, degrees, png_chunk, ratio
from tools.pictures import as_stored as as_stored
from tools.pictures import close as close
from tools.pictures import corners as corners
from tools.pictures import png_of_rows as png_of_rows
from tools.pictures import quadrants as quadrants
from tools.pictures import saved as saved

GPS_CANARY: Final = (51.4778925, -171.2345678)
"""Written by `exif`; leak tests search for `CANARY_WORDS`."""
CANARY_WORDS: Final = ("51.47", "171.2", "canary-serial-90125")
"""The location in decimal, and a serial number that no result contains."""

KYOCERA: Final = Camera(
    base={
        Base.Make: "Kyocera\0\0 ",
        Base.Model: " Contax\tN Digital",
        Base.Software: "Firmware 1.2",
        Base.DateTime: "2024:05:07 09:10:11",
    },
    detail={
        Base.DateTimeOriginal: "2024:05:06 07:08:09",
        Base.SubsecTimeOriginal: "123",
        Base.OffsetTimeOriginal: "-03:30",
        Base.DateTimeDigitized: "2024:05:06 07:08:10",
        Base.OffsetTime: "+00:00",
        Base.LensMake: "Carl Zeiss",
        Base.LensModel: "Planar 1,4/50",
        Base.BodySerialNumber: CANARY_WORDS[2],
        Base.ExposureTime: ratio("1/250"),
        Base.ExposureBiasValue: ratio("-2/3"),
        Base.FNumber: ratio("14/10"),
        Base.ISOSpeedRatings: 400,
        Base.FocalLength: ratio("50"),
        Base.FocalLengthIn35mmFilm: 50,
        Base.Flash: 0x19,
    },
    place={
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLatitude: degrees(GPS_CANARY[0]),
        GPS.GPSLongitudeRef: "W",
        GPS.GPSLongitude: degrees(-GPS_CANARY[1]),
        GPS.GPSAltitudeRef: b"\x01",
        GPS.GPSAltitude: ratio("425/100"),
        GPS.GPSImgDirection: ratio("2705/10"),
        GPS.GPSDateStamp: "2024:05:06",
        GPS.GPSTimeStamp: (ratio("10"), ratio("38"), ratio("9")),
    },
)


def exif(orientation: int = 1, *, gps: bool = True) -> bytes:
    """Return EXIF as a camera writes it, with every field that the processor reads."""
    return KYOCERA.exif(orientation, gps=gps)


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
"""The expected result of `exif()`."""

GPS_FACTS: Final[dict[str, Any]] = {
    "latitude": GPS_CANARY[0],
    "longitude": GPS_CANARY[1],
    "altitude_metres": -4.25,
    "direction_degrees": 270.5,
    "taken_at": "2024-05-06T10:38:09Z",
}


def heic(image: Image.Image, exif_bytes: bytes = b"") -> bytes:
    output = io.BytesIO()
    made = pillow_heif.from_pillow(image)
    made.save(output, quality=90, exif=exif_bytes or None)
    return output.getvalue()


ENCODERS: Final[Mapping[str, Encoder]] = {**PILLOW_ENCODERS, "heic": heic}
"""Encoders of formats that can carry EXIF."""


def photo(width: int = 4000, height: int = 3000, seed: int = 1) -> bytes:
    """Return a JPEG as expensive to decode as a camera's, with the EXIF of `exif`.

    12 megapixels by default, some MB.
    """
    return camera_photo(width, height, seed, exif=exif())


def swapping_profile() -> bytes:
    """Return an sRGB colour profile with red and blue swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    names = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    for one, other in ((b"rXYZ", b"bXYZ"), (b"rTRC", b"bTRC")):
        data[names[one] : names[one] + 4], data[names[other] : names[other] + 4] = other, one
    return bytes(data)


# --- refused pictures -----------------------------------------------------------------------------


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims these dimensions."""
    return png_of_rows(width, height, depth=8, colour_type=2, rows=bytes(1000))


def with_png_checksums(data: bytes) -> bytes:
    """Return a PNG with its chunk checksums corrected; return other data unchanged."""
    if not data.startswith(b"\x89PNG"):
        return data
    made, at = data[:8], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        made += png_chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return made


def png_bomb(megabytes: int = 64) -> bytes:
    """Return a small PNG with a text that unpacks to this size."""
    text = b"Comment\0\0" + zlib.compress(bytes(megabytes << 20), 9)
    whole = saved(quadrants(8, 8), "PNG")
    return whole[:33] + png_chunk(b"zTXt", text) + whole[33:]


def gif_claiming(width: int, height: int) -> bytes:
    """Return a GIF with a screen of this size and a small frame."""
    one = saved(Image.new("P", (8, 8)), "GIF")
    return one[:6] + struct.pack("<HH", width, height) + one[10:]


def gif_of_frames(count: int) -> bytes:
    """Return an animation of `count` frames of about 25 bytes each."""
    one = saved(Image.new("P", (8, 8)), "GIF")
    frame = one[one.index(b"\x2c", 13 + (3 << ((one[10] & 7) + 1))) : -1]
    start = one[: one.index(frame)]
    return start + frame * count + b"\x3b"


def zip_behind(picture: bytes) -> bytes:
    """Return the picture with a ZIP archive appended."""
    output = io.BytesIO(picture)
    with zipfile.ZipFile(output, "a") as archive:
        archive.writestr("payload.txt", "run me")
    return output.getvalue()
