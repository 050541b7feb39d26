"""Conversion of EXIF fields to clean and bounded facts; broken fields are left out.

Tag numbers and types follow EXIF 2.32 (CIPA DC-008), tables 4 to 15."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from PIL import Image
from PIL.ExifTags import IFD, Base

from sluice_processor.images.exif.places import place_of
from sluice_processor.images.exif.times import iso_time
from sluice_processor.images.exif.values import number, text, whole
from sluice_processor.images.model import ExifFacts, Gps


def read_exif(image: Image.Image) -> tuple[ExifFacts, Gps | None]:
    """Return the facts of an opened picture; empty facts if its EXIF is missing or broken."""
    base, detail, place = _directories(image)
    return _facts(base, detail), place_of(place)


def read_orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8; 1 if it is missing or invalid."""
    base, _, _ = _directories(image)
    return _orientation(base) or 1


_Directory = Mapping[int, Any]
_NOTHING: Final[_Directory] = {}


def _directories(image: Image.Image) -> tuple[_Directory, _Directory, _Directory]:
    """Return the base, EXIF and GPS directory; any of them may be broken and thus empty."""
    try:
        exif = image.getexif()
        base = dict(exif)
    except Exception:  # noqa: BLE001  a parser of hostile bytes may raise anything
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
        camera_make=text(base.get(Base.Make)),
        camera_model=text(base.get(Base.Model)),
        lens_make=text(detail.get(Base.LensMake)),
        lens_model=text(detail.get(Base.LensModel)),
        software=text(base.get(Base.Software)),
        exposure_seconds=number(detail.get(Base.ExposureTime), above=0, at_most=1e6),
        exposure_bias_ev=number(detail.get(Base.ExposureBiasValue), at_least=-100, at_most=100),
        f_number=number(detail.get(Base.FNumber), above=0, at_most=1000),
        iso=whole(detail.get(Base.ISOSpeedRatings), 1, 100_000_000),
        focal_length_mm=number(detail.get(Base.FocalLength), above=0, at_most=100_000),
        focal_length_35mm=number(detail.get(Base.FocalLengthIn35mmFilm), above=0, at_most=100_000),
        flash_fired=_flash(detail.get(Base.Flash)),
        orientation=_orientation(base),
    )


def _orientation(base: _Directory) -> int | None:
    return whole(base.get(Base.Orientation), 1, 8)


def _flash(value: Any) -> bool | None:
    bits = whole(value, 0, 0xFFFF)
    return None if bits is None else bool(bits & 1)


def _time(fields: _Directory, time: int, subsec: int, offset: int) -> str | None:
    return iso_time(fields.get(time), fields.get(subsec), fields.get(offset))
