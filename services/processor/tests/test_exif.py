"""Broken, implausible or hostile EXIF: the picture is shown, the facts are clean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import GPS, IFD, Base

from sluice_processor.images.decoding import prepare
from sluice_processor.images.exif.facts import read_exif, read_orientation
from sluice_processor.images.model import ExifFacts, Gps
from support import pictures
from support.inline_processing import process
from support.pictures import quadrants

pytestmark = pytest.mark.filterwarnings("ignore")
"""Pillow's warnings about the damage; children disable them too."""

Ratio = TiffImagePlugin.IFDRational


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


class _Carrier(Image.Image):
    """A picture with EXIF that a test has composed."""

    def __init__(self, exif: Image.Exif) -> None:
        super().__init__()
        self._carried = exif

    def getexif(self) -> Image.Exif:
        return self._carried


def facts(
    base: dict[int, Any] | None = None,
    detail: dict[int, Any] | None = None,
    place: dict[int, Any] | None = None,
) -> tuple[ExifFacts, Gps | None]:
    exif = Image.Exif()
    exif.update(base or {})
    exif._ifds = {IFD.Exif: detail or {}, IFD.GPSInfo: place or {}}
    return read_exif(_Carrier(exif))


BROKEN = {
    "nothing": b"Exif\0\0",
    "no TIFF": b"Exif\0\0" + b"garbage" * 20,
    "no directory": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "a directory of nothing": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "cut": pictures.exif()[:90],
    "values beyond the end": pictures.exif()[:200] + b"\xff" * 200,
}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif"])
@pytest.mark.parametrize("exif", BROKEN.values(), ids=BROKEN)
def test_broken_exif_does_not_hide_the_picture(kind: str, exif: bytes) -> None:
    data = planted(kind, exif)
    done = process(data)
    assert (done.facts.width, done.facts.height) == (320, 200)
    assert done.thumbnails[0].width == 64


def planted(kind: str, exif: bytes) -> bytes:
    """Return a picture with these bytes as EXIF, bypassing encoders that refuse them."""
    whole = pictures.exif()
    body = exif.removeprefix(b"Exif\0\0")
    good = whole.removeprefix(b"Exif\0\0")
    data = pictures.ENCODERS[kind](quadrants(), whole)
    if good not in data:  # AVIF writes a changed version
        start = data.index(b"II*\0") if b"II*\0" in data else data.index(b"MM\0*")
        good = data[start : start + len(good) - 12]
    body = (body + bytes(len(good)))[: len(good)]
    return pictures.with_png_checksums(data.replace(good, body))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_exif_gives_facts_that_are_clean(data: st.DataObject) -> None:
    exif = bytearray(pictures.exif(6))
    for _ in range(data.draw(st.integers(1, 10))):
        exif[data.draw(st.integers(6, len(exif) - 1))] = data.draw(st.integers(0, 255))
    done = process(planted("jpeg", bytes(exif)))
    assert sorted((done.facts.width, done.facts.height)) == [200, 320]
    written = json.dumps(done.facts.exif.to_json(), allow_nan=False)
    assert len(written) < 4096
    for value in done.facts.exif.to_json().values():
        assert not isinstance(value, str) or (value.isprintable() and 0 < len(value) <= 128)
    if done.facts.gps is not None:
        assert abs(done.facts.gps.latitude) <= 90
        assert abs(done.facts.gps.longitude) <= 180
        json.dumps(done.facts.gps.to_json(), allow_nan=False)


ANYTHING = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(), st.binary(),
    st.tuples(st.integers(), st.integers()), st.lists(st.floats(), max_size=4).map(tuple),
    st.builds(Ratio, st.integers(), st.integers(0, 5)),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from([int(tag) for tag in Base]), ANYTHING, max_size=20),
    st.dictionaries(st.sampled_from([int(tag) for tag in Base]), ANYTHING, max_size=20),
    st.dictionaries(st.sampled_from([int(tag) for tag in GPS]), ANYTHING, max_size=20),
)
def test_values_of_any_type_give_facts_of_the_promised_types(
    base: dict[int, Any], detail: dict[int, Any], place: dict[int, Any]
) -> None:
    found, gps = facts(base, detail, place)
    json.dumps(found.to_json(), allow_nan=False).encode()
    if gps is not None:
        json.dumps(gps.to_json(), allow_nan=False).encode()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Canon\0\0\0", "Canon"),
        ("  NIKON   CORPORATION  ", "NIKON CORPORATION"),
        (b"SONY\0", "SONY"),
        ("tab\tline\nbell\a\x1b[31mred", "tab line bell [31mred"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        ("\u202eevil\u2066", "evil"),
        ("cafe\u0301", "café"),
        ("\ud800", None),
        ("x" * 5000, "x" * 128),
        ("\0after", None),
        ("   ", None),
        ("", None),
        (7, None),
    ],
)
def test_strings_are_cleaned(written: object, read: str | None) -> None:
    assert facts({Base.Make: written})[0].camera_make == read


@pytest.mark.parametrize(
    ("time", "subsec", "offset", "read"),
    [
        ("2024:02:29 23:59:59", None, None, "2024-02-29T23:59:59"),
        ("2024:02:29 23:59:59", "07", "+05:45", "2024-02-29T23:59:59.07+05:45"),
        ("2024:02:29 23:59:59", " 5 ", "Z", "2024-02-29T23:59:59.5+00:00"),
        ("2024-02-29T23:59:59", "", "-11:00", "2024-02-29T23:59:59-11:00"),
        ("2024:02:29 23:59:59", "x", "+99:00", "2024-02-29T23:59:59"),
        ("2024:02:29 23:59:59", "1" * 50, "Mars", "2024-02-29T23:59:59.111111"),
        ("2023:02:29 00:00:00", None, None, None),
        ("0000:00:00 00:00:00", None, None, None),
        ("0001:01:01 00:00:00", None, None, None),
        ("    :  :     :  :  ", None, None, None),
        ("yesterday", None, None, None),
        (None, "5", "Z", None),
    ],
)
def test_times(time: object, subsec: object, offset: object, read: str | None) -> None:
    fields: dict[int, Any] = {
        Base.DateTimeOriginal: time,
        Base.SubsecTimeOriginal: subsec,
        Base.OffsetTimeOriginal: offset,
    }
    assert facts(detail=fields)[0].taken_at == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (Ratio(1, 3), 0.333333333),
        (Ratio(0, 1), None),
        (Ratio(1, 0), None),
        (Ratio(0, 0), None),
        (-5, None),
        (float("inf"), None),
        (float("nan"), None),
        ((Ratio(1, 8), Ratio(9, 1)), 0.125),
        ("1/8", None),
        (None, None),
    ],
)
def test_numbers(written: object, read: float | None) -> None:
    assert facts(detail={Base.ExposureTime: written})[0].exposure_seconds == read


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSLatitudeRef: None},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLatitude: (91, 0, 0)},
        {GPS.GPSLatitude: (90, 0, 1)},
        {GPS.GPSLatitude: (Ratio(0, 0), Ratio(0, 0), Ratio(0, 0))},
        {GPS.GPSLatitude: ()},
        {GPS.GPSLatitude: (47, 30, Ratio(0, 0))},
        {GPS.GPSLatitude: "47 undef"},
        {GPS.GPSLatitude: "north"},
        {GPS.GPSLatitude: (47, -30, 0)},
        {GPS.GPSLatitude: -47.5, GPS.GPSLatitudeRef: "N"},
        {GPS.GPSStatus: "V"},
        {GPS.GPSLongitude: (181, 0, 0)},
        {GPS.GPSLongitude: (7, 61, 0)},
        {GPS.GPSLongitude: (-7, 0, 0)},
    ],
)
def test_a_place_that_makes_no_sense_is_none(change: dict[int, Any]) -> None:
    place: dict[int, Any] = {
        GPS.GPSLatitude: (47, 30, 0), GPS.GPSLatitudeRef: "S",
        GPS.GPSLongitude: (7, 45, 36), GPS.GPSLongitudeRef: "E",
    }  # fmt: skip
    whole = facts(place=place)[1]
    assert whole is not None
    assert (whole.latitude, whole.longitude) == (-47.5, 7.76)
    assert facts(place={**place, **change})[1] is None


def test_an_orientation_that_makes_no_sense_is_upright() -> None:
    for written in (0, 9, -1, "6", None, b"\x06", 1.5):
        exif = Image.Exif()
        exif[Base.Orientation] = written
        assert read_orientation(_Carrier(exif)) == 1
        assert facts({Base.Orientation: written})[0].orientation is None


def test_where_a_picture_was_taken_is_not_in_its_repr() -> None:
    done = process(pictures.ENCODERS["jpeg"](quadrants(), pictures.exif()))
    assert done.facts.gps is not None
    for text in (repr(done), str(done.facts), f"{done.facts.gps}"):
        assert not any(word in text for word in pictures.CANARY_WORDS)
