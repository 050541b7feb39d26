"""EXIF to facts: what is believable, cleaned and bounded; what is broken is left out.

Tag numbers and types are those of EXIF 2.32 (CIPA DC-008), tables 4 to 15.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from sluice_processor.model import ExifFacts, Gps

_MAX_TEXT: Final = 128
_EARLIEST_YEAR: Final = 1826
"""Nothing was photographed before; cameras with an empty clock write 0000."""


def read_exif(image: Image.Image) -> tuple[ExifFacts, Gps | None]:
    """The facts of an opened picture; empty ones when its EXIF is missing or broken."""
    base, detail, place = _directories(image)
    return _facts(base, detail), _gps(place)


def read_orientation(image: Image.Image) -> int:
    """1 to 8; 1 where it is missing or makes no sense."""
    base, _, _ = _directories(image)
    return _orientation(base) or 1


_Directory = Mapping[int, Any]
_NOTHING: Final[_Directory] = {}


def _directories(image: Image.Image) -> tuple[_Directory, _Directory, _Directory]:
    """Base, EXIF and GPS directory; each on its own may be broken."""
    try:
        exif = image.getexif()
        base = dict(exif)
    except Exception:  # noqa: BLE001  a parser of hostile bytes raises whatever it likes
        return _NOTHING, _NOTHING, _NOTHING
    return base, _directory(exif, IFD.Exif), _directory(exif, IFD.GPSInfo)


def _directory(exif: Image.Exif, tag: IFD) -> _Directory:
    try:
        return dict(exif.get_ifd(tag))
    except Exception:  # noqa: BLE001  as above
        return _NOTHING


def _facts(base: _Directory, detail: _Directory) -> ExifFacts:
    return ExifFacts(
        taken_at=_time(
            detail, Base.DateTimeOriginal, Base.SubsecTimeOriginal, Base.OffsetTimeOriginal
        ),
        digitized_at=_time(
            detail, Base.DateTimeDigitized, Base.SubsecTimeDigitized, Base.OffsetTimeDigitized
        ),
        modified_at=_time(
            {**detail, Base.DateTime: base.get(Base.DateTime)},
            Base.DateTime,
            Base.SubsecTime,
            Base.OffsetTime,
        ),
        camera_make=_text(base.get(Base.Make)),
        camera_model=_text(base.get(Base.Model)),
        lens_make=_text(detail.get(Base.LensMake)),
        lens_model=_text(detail.get(Base.LensModel)),
        software=_text(base.get(Base.Software)),
        exposure_seconds=_number(detail.get(Base.ExposureTime), above=0, at_most=1e6),
        exposure_bias_ev=_number(detail.get(Base.ExposureBiasValue), at_least=-100, at_most=100),
        f_number=_number(detail.get(Base.FNumber), above=0, at_most=1000),
        iso=_whole(detail.get(Base.ISOSpeedRatings), 1, 100_000_000),
        focal_length_mm=_number(detail.get(Base.FocalLength), above=0, at_most=100_000),
        focal_length_35mm=_number(detail.get(Base.FocalLengthIn35mmFilm), above=0, at_most=100_000),
        flash_fired=_flash(detail.get(Base.Flash)),
        orientation=_orientation(base),
    )


def _orientation(base: _Directory) -> int | None:
    return _whole(base.get(Base.Orientation), 1, 8)


def _flash(value: Any) -> bool | None:
    bits = _whole(value, 0, 0xFFFF)
    return None if bits is None else bool(bits & 1)


# --- values ---------------------------------------------------------------------------------------


def _first(value: Any) -> Any:
    """Where one value belongs some cameras write several, the first of which counts."""
    return value[0] if isinstance(value, tuple | list) and value else value


def _text(value: Any) -> str | None:
    """Letters without control, format, surrogate and private characters, at most `_MAX_TEXT`."""
    value = _first(value)
    if isinstance(value, bytes):
        value = value[: 8 * _MAX_TEXT].decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    value = value.partition("\0")[0][: 8 * _MAX_TEXT]
    value = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in value)
    value = unicodedata.normalize("NFC", " ".join(value.split()))[:_MAX_TEXT].strip()
    return value or None


def _number(
    value: Any, *, at_most: float, at_least: float = -math.inf, above: float = -math.inf
) -> float | None:
    try:
        number = float(_first(value))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(number) or number > at_most or number < at_least or number <= above:
        return None
    return float(f"{number:.9g}")


def _whole(value: Any, at_least: int, at_most: int) -> int | None:
    value = _first(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if at_least <= value <= at_most else None


def _digits(value: Any) -> str:
    text = _text(value) or ""
    return text if text.isascii() and text.isdigit() else ""


# --- times ----------------------------------------------------------------------------------------


def _time(fields: _Directory, time: int, subsec: int, offset: int) -> str | None:
    """ISO 8601 of "2024:05:06 07:08:09", its fractions ("123") and its offset ("+02:00")."""
    text = _text(fields.get(time))
    moment = None if text is None else _parsed(text)
    if moment is None:
        return None
    moment = moment.replace(tzinfo=_offset(_text(fields.get(offset))))
    fraction = _digits(fields.get(subsec))[:6]
    written = moment.replace(tzinfo=None).isoformat()
    zone = moment.isoformat()[len(written) :]
    return f"{written}.{fraction}{zone}" if fraction else f"{written}{zone}"


def _parsed(text: str) -> datetime | None:
    for pattern in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
        try:
            moment = datetime.strptime(text[:19], pattern)
        except ValueError:
            continue
        return moment if moment.year >= _EARLIEST_YEAR else None
    return None


def _offset(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text == "Z":
        return UTC
    sign, hours, colon, minutes = text[:1], text[1:3], text[3:4], text[4:]
    if sign not in "+-" or colon != ":" or not (_digits(hours) and _digits(minutes)):
        return None
    if int(hours) > 14 or int(minutes) > 59:
        return None
    shift = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-shift if sign == "-" else shift)


# --- place ----------------------------------------------------------------------------------------


def _gps(place: _Directory) -> Gps | None:
    latitude = _degrees(place.get(GPS.GPSLatitude), place.get(GPS.GPSLatitudeRef), "NS", 90)
    longitude = _degrees(place.get(GPS.GPSLongitude), place.get(GPS.GPSLongitudeRef), "EW", 180)
    if latitude is None or longitude is None:
        return None
    return Gps(
        latitude,
        longitude,
        altitude_metres=_altitude(place),
        direction_degrees=_number(place.get(GPS.GPSImgDirection), at_least=0, at_most=360),
        taken_at=_gps_time(place),
    )


def _degrees(value: Any, reference: Any, directions: str, limit: int) -> float | None:
    """Degrees, minutes and seconds to degrees, negative for the second direction."""
    parts = _triple(value, limit)
    direction = (_text(reference) or "")[:1].upper()
    if parts is None or not direction or direction not in directions:
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if degrees > limit:
        return None
    return round(-degrees if direction == directions[1] else degrees, 7)


def _triple(value: Any, limit: int) -> tuple[float, float, float] | None:
    """Degrees or hours up to `limit`, minutes, seconds."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        return None
    first = _number(value[0], at_least=0, at_most=limit)
    minutes, seconds = (_number(part, at_least=0, at_most=60) for part in value[1:])
    if first is None or minutes is None or seconds is None:
        return None
    return first, minutes, seconds


def _altitude(place: _Directory) -> float | None:
    metres = _number(place.get(GPS.GPSAltitude), at_least=0, at_most=100_000)
    below = place.get(GPS.GPSAltitudeRef) in (1, b"\x01", 3, b"\x03")
    return None if metres is None else round(-metres if below else metres, 3)


def _gps_time(place: _Directory) -> str | None:
    day = _text(place.get(GPS.GPSDateStamp))
    clock = _triple(place.get(GPS.GPSTimeStamp), 23)
    if day is None or clock is None:
        return None
    hours, minutes, seconds = (int(part) for part in clock)
    moment = _parsed(f"{day} {hours:02}:{minutes:02}:{seconds:02}")
    return None if moment is None else f"{moment.isoformat()}Z"
