"""Conversion of the GPS directory of EXIF to a place. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from PIL.ExifTags import GPS

from sluice_processor.images.exif.times import parse_time
from sluice_processor.images.exif.values import first, number, text
from sluice_processor.images.model import Gps

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[Ee][+-]?\d{1,3})?", re.ASCII)
_UNKNOWN: Final = re.compile(r"\b(?:inf|nan|undef)\b", re.IGNORECASE)
_VOID: Final = "V"
"""GPSStatus of an invalid measurement (EXIF 2.32, table 15)."""
_MAX_PARTS: Final = 3


def place_of(directory: Mapping[int, Any]) -> Gps | None:
    """Return the place in a GPS directory, or None.

    A wrong place is worse than none. None without both coordinates and their hemispheres, with a
    void status, and for exactly 0, 0, which receivers and programs without a position write.
    """
    if (text(directory.get(GPS.GPSStatus)) or "")[:1].upper() == _VOID:
        return None
    latitude = _degrees(directory, GPS.GPSLatitude, GPS.GPSLatitudeRef, "NS", 90)
    longitude = _degrees(directory, GPS.GPSLongitude, GPS.GPSLongitudeRef, "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None
    return Gps(
        latitude,
        longitude,
        altitude_metres=_altitude(directory),
        direction_degrees=number(directory.get(GPS.GPSImgDirection), at_least=0, at_most=360),
        taken_at=_time(directory),
    )


def _degrees(
    directory: Mapping[int, Any], value_tag: int, reference_tag: int, directions: str, limit: int
) -> float | None:
    """Return degrees, negative for the second direction.

    A sign gives the hemisphere only where the reference is missing. A sign that contradicts the
    reference makes the place invalid.
    """
    value = directory.get(value_tag)
    parts = _parts(value)
    reference = text(directory.get(reference_tag))
    direction = (reference or _direction_within(value))[:1].upper()
    if parts is None or (direction and direction not in directions):
        return None
    negative = math.copysign(1, parts[0]) < 0
    degrees, minutes, seconds = (abs(parts[0]), *parts[1:])
    if not (0 <= minutes <= 60 and 0 <= seconds <= 60):
        return None
    degrees += minutes / 60 + seconds / 3600
    south_or_west = direction == directions[1]
    if (
        degrees > limit
        or (not direction and not negative)
        or (direction and negative and not south_or_west)
    ):
        return None
    return round(-degrees if south_or_west or negative else degrees, 7) + 0.0


def _parts(value: Any) -> tuple[float, float, float] | None:
    """Return degrees (or hours), minutes and seconds of one to three numbers, or of a text.

    Follows exiftool's `ToDegrees`: a text may have anything between its numbers, and the first
    three count; a value that is no number (0/0) makes all of it unknown.
    """
    if isinstance(first(value), str | bytes):
        written = " ".join(filter(None, map(text, value if isinstance(value, tuple) else (value,))))
        if _UNKNOWN.search(written):
            return None
        value = tuple(float(found) for found in _NUMBER.findall(written))
    elif not isinstance(value, tuple | list):
        value = (value,)
    parts = [_finite(part) for part in value[:_MAX_PARTS]]
    if not parts or any(part is None for part in parts):
        return None
    degrees, minutes, seconds = (*(part for part in parts if part is not None), 0.0, 0.0)[:3]
    return degrees, minutes, seconds


def _finite(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _direction_within(value: Any) -> str:
    """Return the hemisphere letter at the end or the beginning of a text like "51 30 36 N"."""
    written = text(value) if isinstance(first(value), str | bytes) else None
    if written is None:
        return ""
    found = re.search(r"(?:^|[^A-Z])([NSEW])(?:orth|outh|ast|est)?$", written, re.IGNORECASE)
    found = found or re.match(r"([NSEW])(?:orth|outh|ast|est)?[\s\d+-]", written, re.IGNORECASE)
    return found[1] if found else ""


def _altitude(directory: Mapping[int, Any]) -> float | None:
    metres = number(directory.get(GPS.GPSAltitude), at_least=0, at_most=100_000)
    below = directory.get(GPS.GPSAltitudeRef) in (1, b"\x01", 3, b"\x03")
    return None if metres is None else round(-metres if below else metres, 3)


def _time(directory: Mapping[int, Any]) -> str | None:
    """Return the satellites' UTC to the second; hours, minutes and seconds may each be decimal."""
    day = directory.get(GPS.GPSDateStamp)
    if isinstance(day, str | bytes):  # Casio separates the parts with NUL
        day = day.rstrip("\0").replace("\0", ":") if isinstance(day, str) else _with_colons(day)
    written = text(day)
    date = None if written is None else parse_time(written)
    clock = _parts(directory.get(GPS.GPSTimeStamp))
    if date is None or clock is None or any(part < 0 for part in clock):
        return None
    seconds = int(clock[0] * 3600 + clock[1] * 60 + clock[2])
    if clock[0] >= 24 or clock[1] > 60 or clock[2] > 60:
        return None
    midnight = date.moment.replace(hour=0, minute=0, second=0)
    return f"{(midnight + timedelta(seconds=seconds)).isoformat()}Z"


def _with_colons(day: bytes) -> bytes:
    return day.rstrip(b"\0").replace(b"\0", b":")
