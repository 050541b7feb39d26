"""Conversion of EXIF times, in the forms that cameras and programs write, to ISO 8601. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from sluice_processor.images.exif.values import text

_EARLIEST_YEAR: Final = 1826
"""The first photograph; cameras with an unset clock write 0000."""
_LATEST_YEAR: Final = 2999
"""As in exiftool."""
_MAX_FRACTION_DIGITS: Final = 6
_AROUND: Final = "\"'`([{<:=,; "
"""What programs put around a date, or leave in front of it."""
_MAX_OFFSET_HOURS: Final = 14

_DATE: Final = re.compile(
    r"(\d{4})(?:[^\d+]{1,3}(\d{1,2})[^\d+]{1,3}(\d{1,2})|(\d{2})(\d{2}))(?!\d)"
)
_COMPACT: Final = re.compile(r"(\d{4})(\d{2})(\d{2})[T ]?(?=\d{6}(?!\d))")
_CLOCK: Final = re.compile(
    r"[^\d+]{0,4}(?:(\d{1,2})([^\d+-]{1,3}|-)(\d{1,2})(?:(?:[^\d+Z-]{1,3}|\2)(\d{1,2}))?"
    r"|(\d{2})(\d{2})(\d{2}))(?!\d)(?:[.,](\d+))?"
)
_ZONE: Final = re.compile(
    r"\s*(?:(Z|UTC|GMT)\b|([+-])(\d{1,2})(?::?(\d{2}))?(?!\d))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class WrittenTime:
    """The content of one field: local time, digits of its fraction, zone if present."""

    moment: datetime
    fraction: str
    zone: timezone | None


def iso_time(time: Any, subsec: Any, offset: Any) -> str | None:
    """Return ISO 8601 of a time, its fractions ("123") and its offset ("+02:00"), or None.

    A fraction and a zone inside the time take precedence over the other two fields. A date
    without a time means midnight, as in exiftool.
    """
    written = text(time)
    found = None if written is None else parse_time(written)
    if found is None:
        return None
    zone = found.zone or parse_zone(text(offset))
    fraction = (found.fraction or _leading_digits(text(subsec)))[:_MAX_FRACTION_DIGITS]
    local = found.moment.isoformat()
    shift = found.moment.replace(tzinfo=zone).isoformat()[len(local) :]
    return f"{local}.{fraction}{shift}" if fraction else f"{local}{shift}"


def parse_time(written: str) -> WrittenTime | None:
    """Parse a date, followed by an optional time and zone.

    The specification has one form, "2024:05:06 07:08:09" (EXIF 2.32, section 4.6.5). The others
    are those of exiftool's `ConvertDateTime`, `ExifDate` and `ExifTime`. Like exiftool it skips a
    leading quote or bracket; not a word, because the year then follows the day.
    """
    written = written.lstrip(_AROUND)
    date = _COMPACT.match(written) or _DATE.match(written)
    if date is None:
        return None
    year, month, day = (int(part) for part in date.groups() if part is not None)
    if not _EARLIEST_YEAR <= year <= _LATEST_YEAR:
        return None
    hour = minute = second = 0
    fraction, zone = "", None
    clock = _CLOCK.match(written, date.end())
    if clock is not None:
        spaced = (clock[1], clock[3], clock[4] or "0")
        hour, minute, second = (int(p) for p in (spaced if clock[1] else clock.group(5, 6, 7)))
        fraction = clock[8] or ""
        zone = parse_zone(written[clock.end() :])
    if hour > 24 or minute > 59 or second > 60:
        return None
    try:
        # 24:00:00 and a leap second belong to the next day and minute.
        moment = datetime(year, month, day) + timedelta(hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):
        return None
    return WrittenTime(moment, fraction, zone)


def parse_zone(written: str | None) -> timezone | None:
    """Parse "Z", "+02:00", "+0200", "+2:00" or "+02"; None for anything else."""
    found = None if written is None else _ZONE.match(written)
    if found is None:
        return None
    if found[1]:
        return UTC
    hours, minutes = int(found[3]), int(found[4] or 0)
    if hours > _MAX_OFFSET_HOURS or minutes > 59:
        return None
    shift = timedelta(hours=hours, minutes=minutes)
    return timezone(-shift if found[2] == "-" else shift)


def _leading_digits(written: str | None) -> str:
    """Return the ASCII digits that a text begins with."""
    found = re.match(r"[0-9]+", written or "")
    return found[0] if found else ""
