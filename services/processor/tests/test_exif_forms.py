"""EXIF in the forms that cameras and programs write, compared with exiftool."""

# The expected values are those of exiftool 12.57: `-d %Y-%m-%dT%H:%M:%S%z` for times, with
# fractions and offsets of `SubSecDateTimeOriginal`; `-n` for places; its raw bytes for texts. Where
# it only repeats a field that it cannot parse, nothing is expected.

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_processor.images.decoding import prepare
from sluice_processor.images.exif.times import iso_time
from sluice_processor.images.exif.values import decode_text, text
from sluice_processor.images.model import ImageFacts
from support.inline_processing import process
from support.pictures import quadrants, saved

Field = tuple[int, int, int, bytes]
"""(tag, type, count, value); Pillow's writer does not support these."""
MAKE, MODEL, SOFTWARE = 0x010F, 0x0110, 0x0131
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
TAKEN, SUBSEC, OFFSET, LENS = 0x9003, 0x9291, 0x9011, 0xA434
LAT_REF, LAT, LON_REF, LON, STATUS, STAMP, DATE = 1, 2, 3, 4, 9, 7, 0x1D


def ascii_field(tag: int, value: str | bytes, kind: int = 2) -> Field:
    data = (value.encode() if isinstance(value, str) else value) + b"\0"
    return tag, kind, len(data), data


def rational_field(tag: int, *values: tuple[int, int], kind: int = 5) -> Field:
    pair = "<II" if kind == 5 else "<ii"
    return tag, kind, len(values), b"".join(struct.pack(pair, *value) for value in values)


def directory(fields: Sequence[Field], at: int) -> bytes:
    """Return a TIFF directory for this offset, followed by its values."""
    ordered = sorted(fields)
    values_at = at + 2 + 12 * len(ordered) + 4
    head, values = struct.pack("<H", len(ordered)), b""
    for tag, kind, count, data in ordered:
        shown = data.ljust(4, b"\0")
        if len(data) > 4:
            shown = struct.pack("<I", values_at + len(values))
            values += data + b"\0" * (len(data) % 2)
        head += struct.pack("<HHI", tag, kind, count) + shown
    return head + bytes(4) + values


def exif(
    base: Sequence[Field] = (), detail: Sequence[Field] = (), place: Sequence[Field] = ()
) -> bytes:
    def pointers(detail_at: int, place_at: int) -> list[Field]:
        found = ((EXIF_IFD, detail_at, detail), (GPS_IFD, place_at, place))
        return [(tag, 4, 1, struct.pack("<I", at)) for tag, at, fields in found if fields]

    detail_at = 8 + len(directory([*base, *pointers(0, 0)], 8))
    detail_part = directory(detail, detail_at) if detail else b""
    place_at = detail_at + len(detail_part)
    place_part = directory(place, place_at) if place else b""
    whole = directory([*base, *pointers(detail_at, place_at)], 8) + detail_part + place_part
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + whole


def facts(
    base: Sequence[Field] = (), detail: Sequence[Field] = (), place: Sequence[Field] = ()
) -> ImageFacts:
    prepare()
    data = saved(quadrants(48, 32), "JPEG", exif=exif(base, detail, place))
    return process(data, sizes=()).facts


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Škoda Caméra".encode(), "Škoda Caméra"),
        ("小米 12".encode(), "小米 12"),
        ("Camera 📷".encode(), "Camera 📷"),
        ("Caméra".encode("latin-1"), "Caméra"),
        ("Ø 50mm ƒ/1.8".encode("cp1252"), "Ø 50mm ƒ/1.8"),
        ("“Größe”".encode("cp1252"), "“Größe”"),
        ("é".encode("latin-1") * 3, "ééé"),
        ("美图秀秀".encode()[:-1], "美图秀"),  # cut by a fixed-length field
        (b"\xef\xbb\xbfLeica", "Leica"),
        (b"a\x81b", "a b"),
        (b"plain", "plain"),
    ],
)
@pytest.mark.parametrize("kind", [2, 7, 1, 129])
def test_text_in_utf8_or_latin1_is_read(kind: int, written: bytes, read: str) -> None:
    """In every field type used for text: ASCII, UNDEFINED, BYTE and EXIF 3.0's UTF-8."""
    found = facts(
        [ascii_field(tag, written, kind) for tag in (MAKE, MODEL, SOFTWARE)],
        [ascii_field(LENS, written, kind)],
    ).exif
    assert (found.camera_make, found.camera_model, found.software) == (read, read, read)
    assert found.lens_model == read


@given(st.text(max_size=60))
def test_utf8_survives_and_is_only_cleaned(written: str) -> None:
    data = written.encode("utf-8", "ignore")
    assert decode_text(data) == data.decode()
    assert text(data.decode("latin-1")) == text(data)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["C"])))
def test_latin1_survives_unless_it_is_utf8(written: str) -> None:
    data = written.encode("latin-1")
    found = decode_text(data)
    try:
        data.decode()
    except UnicodeDecodeError:
        # A single accidental UTF-8 pair is possible, one among more accents is not.
        pairs = sum("\u00c2" <= c <= "\u00f4" for c in written)
        assert found == written or pairs > 0
    else:
        assert found == data.decode()


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "subsec", "offset", "read"),
    [
        ("2025:01:14 18:31:30+0000", None, None, "2025-01-14T18:31:30+00:00"),
        ("2025:01:14 18:31:30 +02:00", None, None, "2025-01-14T18:31:30+02:00"),
        ("2025:01:14T18:31:30.123-0330", None, None, "2025-01-14T18:31:30.123-03:30"),
        ("2016-09-28T12:47:54Z", None, None, "2016-09-28T12:47:54+00:00"),
        ("2025:01:14 18:31:30 UTC", None, None, "2025-01-14T18:31:30+00:00"),
        ("2007/01/02 03:04:05", "5", None, "2007-01-02T03:04:05.5"),
        ("2007: 1: 2  3: 4: 5", None, "+0200", "2007-01-02T03:04:05+02:00"),
        ("2025:01:14 18:31: 5", None, None, "2025-01-14T18:31:05"),
        ("2025:01:14:18:31:30", None, None, "2025-01-14T18:31:30"),
        ("2025.01.14 18.31.30", None, None, "2025-01-14T18:31:30"),
        ("2025-01-14_18-31-30", None, None, "2025-01-14T18:31:30"),
        ("2025, 01, 14, 18, 31, 30", None, None, "2025-01-14T18:31:30"),
        ("2025-01-14 18:31", None, "-03:30", "2025-01-14T18:31:00-03:30"),
        ("2007:01:02", None, None, "2007-01-02T00:00:00"),
        ("'2025:01:14 18:31:30'", None, None, "2025-01-14T18:31:30"),
        ("(2025:01:14 18:31:30Z)", None, None, "2025-01-14T18:31:30+00:00"),
        (": 2025:01:14 18:31:30", None, None, "2025-01-14T18:31:30"),
        ("2025:01:14   :  :  ", None, None, "2025-01-14T00:00:00"),
        ("2025:01:14 18:31:30.25", "99", "+02:00", "2025-01-14T18:31:30.25+02:00"),
        ("2025:01:14 18:31:30+05:00", "99", "+02:00", "2025-01-14T18:31:30.99+05:00"),
        ("2025:01:14 18:31:30", "12 ", "+2:00", "2025-01-14T18:31:30.12+02:00"),
        ("2025:01:14 18:31:30", None, "Z", "2025-01-14T18:31:30+00:00"),
        ("2025:01:14 18:31:30", None, "+02", "2025-01-14T18:31:30+02:00"),
        ("2025:01:14 18:31:30", None, "   :  ", "2025-01-14T18:31:30"),
        ("2025:01:14 18:31:30", None, "+99:00", "2025-01-14T18:31:30"),
        ("0000:00:00 00:00:00", None, None, None),
        ("    :  :     :  :  ", None, None, None),
        ("2025:00:00 00:00:00", None, None, None),
        ("2025:02:30 00:00:00", None, None, None),
        ("2025:01:14 25:00:00", None, None, None),
        ("14/01/2025 18:31:30", None, None, None),
    ],
)
def test_times_are_read_as_exiftool_reads_them(
    written: str, subsec: str | None, offset: str | None, read: str | None
) -> None:
    detail = [ascii_field(TAKEN, written)]
    detail += [] if subsec is None else [ascii_field(SUBSEC, subsec)]
    detail += [] if offset is None else [ascii_field(OFFSET, offset)]
    assert facts(detail=detail).exif.taken_at == read


@given(
    st.datetimes(min_value=datetime(1826, 1, 1), max_value=datetime(2999, 12, 31)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["{:%z}", "Z", ""]),
    st.sampled_from(":/-. "),
    st.sampled_from([" ", "T", "  "]),
)
def test_any_time_survives_its_separators(
    moment: datetime, minutes: int, zone: str, separator: str, between: str
) -> None:
    moment = moment.replace(microsecond=0)
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    day = separator.join((f"{moment.year:04}", f"{moment:%m}", f"{moment:%d}"))
    written = f"{day}{between}{moment:%H:%M:%S}{zone.format(aware)}"
    expected = {"": moment, "Z": moment.replace(tzinfo=UTC)}.get(zone, aware)
    assert iso_time(written, None, None) == expected.isoformat()


@given(st.text(max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_no_text_breaks_the_times(written: str, subsec: str, offset: str) -> None:
    found = iso_time(written, subsec, offset)
    assert found is None or datetime.fromisoformat(found[:19])


# --- places ---------------------------------------------------------------------------------------

NORTH, EAST = ascii_field(LAT_REF, "N"), ascii_field(LON_REF, "E")


def place(*fields: Field) -> tuple[float, float] | None:
    found = facts(place=fields).gps
    return None if found is None else (found.latitude, found.longitude)


@pytest.mark.parametrize(
    ("latitude", "longitude", "read"),
    [
        ([(51, 1), (30, 1), (36, 1)], [(7, 1), (30, 1), (0, 1)], (51.51, 7.5)),
        ([(51, 1), (3012, 100)], [(7, 1), (3000, 100)], (51.502, 7.5)),
        ([(515, 10)], [(75, 10)], (51.5, 7.5)),
        ([(51, 1), (3012, 100), (0, 1)], [(7, 1), (30, 1), (0, 1)], (51.502, 7.5)),
        ([(0, 1)] * 3, [(7, 1), (30, 1), (0, 1)], (0.0, 7.5)),
        ([(51, 1), (30, 1), (0, 1)], [(0, 1)] * 3, (51.5, 0.0)),
        ([(0, 1)] * 3, [(0, 1)] * 3, None),
        ([(0, 0)] * 3, [(0, 0)] * 3, None),
        ([(51, 1), (30, 1), (0, 0)], [(0, 1), (7, 1), (0, 0)], None),
        ([(51, 0), (30, 1), (0, 1)], [(7, 1), (30, 1), (0, 1)], None),
        ([(91, 1), (0, 1), (0, 1)], [(7, 1), (30, 1), (0, 1)], None),
        ([(51, 1), (30, 1), (0, 1)], [(180, 1), (0, 1), (1, 1)], None),
    ],
)
def test_a_position_in_rationals_is_read(
    latitude: list[tuple[int, int]],
    longitude: list[tuple[int, int]],
    read: tuple[float, float] | None,
) -> None:
    fields = (rational_field(LAT, *latitude), rational_field(LON, *longitude))
    assert place(NORTH, EAST, *fields) == read


@pytest.mark.parametrize(
    ("latitude", "longitude", "read"),
    [
        ("51.5", "7.5", (51.5, 7.5)),
        ("51 30 36", "7 30 0", (51.51, 7.5)),
        ("51 deg 30' 36.00\" N", "7 deg 30' 0.00\" E", (51.51, 7.5)),
        ("51,30.12N", "7,30.0E", (51.502, 7.5)),
        ("undef undef undef", "7 30 0", None),
        ("inf", "7 30 0", None),
        ("95.5", "7.5", None),
        ("", "7.5", None),
        ("0", "0.0", None),
    ],
)
def test_a_position_in_text_is_read(
    latitude: str, longitude: str, read: tuple[float, float] | None
) -> None:
    fields = (ascii_field(LAT, latitude), ascii_field(LON, longitude))
    assert place(NORTH, EAST, *fields) == read


@pytest.mark.parametrize(
    ("references", "read"),
    [
        (("n", "e"), (51.5, 7.5)),
        (("South", "West"), (-51.5, -7.5)),
        (("s", "w"), (-51.5, -7.5)),
        (("X", "E"), None),
        (("N", ""), None),
    ],
)
def test_a_hemisphere_is_read_or_there_is_no_place(
    references: tuple[str, str], read: tuple[float, float] | None
) -> None:
    """Without a hemisphere the place is ambiguous; exiftool gives no composite position either."""
    fields = (rational_field(LAT, (515, 10)), rational_field(LON, (75, 10)))
    named = (ascii_field(LAT_REF, references[0]), ascii_field(LON_REF, references[1]))
    assert place(*named, *fields) == read


@pytest.mark.parametrize(
    ("reference", "read"), [(None, (-51.5, 7.5)), ("S", (-51.5, 7.5)), ("N", None)]
)
def test_a_sign_stands_for_a_missing_reference_only(
    reference: str | None, read: tuple[float, float] | None
) -> None:
    named = [] if reference is None else [ascii_field(LAT_REF, reference)]
    negative = rational_field(LAT, (-515, 10), kind=10)
    assert place(*named, negative, EAST, rational_field(LON, (75, 10))) == read


@pytest.mark.parametrize(("status", "is_there"), [("A", True), ("V", False), ("v", False)])
def test_a_void_measurement_is_no_place(status: str, is_there: bool) -> None:
    fields = (rational_field(LAT, (17, 1)), rational_field(LON, (17, 1)))
    found = place(NORTH, EAST, *fields, ascii_field(STATUS, status))
    assert (found is not None) is is_there


@pytest.mark.parametrize(
    ("day", "clock", "read"),
    [
        (b"2024:05:06", [(10, 1), (38, 1), (9, 1)], "2024-05-06T10:38:09Z"),
        (b"2024\x0005\x0006", [(10, 1), (38, 1), (9, 1)], "2024-05-06T10:38:09Z"),
        (b"20240506", [(10, 1), (38, 1), (9, 1)], "2024-05-06T10:38:09Z"),
        (b"2024-05-06", [(10, 1), (3815, 100), (0, 1)], "2024-05-06T10:38:09Z"),
        (b"2024:05:06", [(0, 0)] * 3, None),
        (b"0000:00:00", [(10, 1), (38, 1), (9, 1)], None),
    ],
)
def test_the_satellites_time_is_read(
    day: bytes, clock: list[tuple[int, int]], read: str | None
) -> None:
    fields = (rational_field(LAT, (515, 10)), rational_field(LON, (75, 10)))
    time = (ascii_field(DATE, day), rational_field(STAMP, *clock))
    found = facts(place=(NORTH, EAST, *fields, *time)).gps
    assert found is not None
    assert found.taken_at == read
