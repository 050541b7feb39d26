"""Location privacy: planted locations appear only in the location field of the result."""

from __future__ import annotations

import asyncio
import json
import struct
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import PngImagePlugin
from PIL.ExifTags import GPS, IFD, Base

from sluice_core.catalogue.processing import Processing, ProcessingState
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes
from support.photo_stage import Stage, photo_stage, running
from support.pictures import ENCODERS, KYOCERA, heic, quadrants, saved

NUMBER: Final = 9172635
"""The canary number in every planted location, well-formed or not."""
WORD: Final = "canary-place"
PRINTED: Final = (str(NUMBER), "9.172635", "9,172635", WORD)
PACKED: Final = (struct.pack(">I", NUMBER), struct.pack("<I", NUMBER), WORD.encode())
Field = tuple[int, int, bytes]
"""A directory entry: type, count and value (TIFF 6.0, section 2)."""
Place = Mapping[int, Field]


def ratios(*pairs: tuple[int, int]) -> Field:
    return 5, len(pairs), b"".join(struct.pack(">II", *pair) for pair in pairs)


def letters(text: str) -> Field:
    return 2, len(text) + 1, text.encode() + b"\0"


def raw(data: bytes) -> Field:
    return 7, len(data), data


SECONDS: Final = (NUMBER, 1_000_000)
RIGHT: Final[Place] = {
    GPS.GPSLatitudeRef: letters("S"),
    GPS.GPSLatitude: ratios((51, 1), (28, 1), SECONDS),
    GPS.GPSLongitudeRef: letters("W"),
    GPS.GPSLongitude: ratios((171, 1), (14, 1), SECONDS),
    GPS.GPSProcessingMethod: raw(b"ASCII\0\0\0" + WORD.encode()),
}
PLACES: Final[Mapping[str, Place]] = {
    "right": RIGHT,
    "no reference": {k: v for k, v in RIGHT.items() if k != GPS.GPSLatitudeRef},
    "the reference is a place": {**RIGHT, GPS.GPSLatitudeRef: letters(WORD)},
    "beyond the pole": {**RIGHT, GPS.GPSLatitude: ratios((NUMBER, 1), (0, 1), (0, 1))},
    "divided by nothing": {**RIGHT, GPS.GPSLongitude: ratios(*[(NUMBER, 0)] * 3)},
    "one number": {**RIGHT, GPS.GPSLatitude: ratios((NUMBER, 100_000))},
    "words": {**RIGHT, GPS.GPSLatitude: letters(f"{NUMBER} {WORD}")},
    "bytes": {**RIGHT, GPS.GPSLongitude: raw(f"{NUMBER} {WORD}".encode())},
    "no type": {**RIGHT, GPS.GPSLatitude: (99, 3, struct.pack(">6I", *[NUMBER] * 6))},
    "many numbers": {**RIGHT, GPS.GPSLatitude: ratios(*[SECONDS] * 40)},
    "more than there are": {**RIGHT, GPS.GPSLatitude: (5, 2**28, ratios(SECONDS)[2])},
    "absurd height": {
        **RIGHT,
        GPS.GPSAltitude: ratios((NUMBER, 1)),
        GPS.GPSAltitudeRef: letters(WORD),
    },
    "a day that is a place": {
        **RIGHT,
        GPS.GPSDateStamp: letters(WORD),
        GPS.GPSTimeStamp: ratios(*[SECONDS] * 3),
    },
    "an area": {GPS.GPSAreaInformation: raw(b"ASCII\0\0\0" + WORD.encode())},
}


def exif(place: Place) -> bytes:
    """Return EXIF data with the location, written here because Pillow writes no malformed data."""
    base: dict[int, Field] = {Base.Make: letters("Kyocera"), Base.Orientation: (3, 1, b"\0\1")}
    behind = 8 + len(directory({**base, IFD.GPSInfo: (4, 1, bytes(4))}, 0))
    base[IFD.GPSInfo] = (4, 1, struct.pack(">I", behind))
    return b"Exif\0\0MM\0*\0\0\0\x08" + directory(base, 8) + directory(place, behind)


def directory(fields: Mapping[int, Field], at: int) -> bytes:
    """Return a directory at offset `at`, followed by the values of more than four bytes."""
    entries, values = b"", b""
    behind = at + 2 + 12 * len(fields) + 4
    for tag, (kind, count, value) in sorted(fields.items()):
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack(">I", behind + len(values))
            values += value
        entries += struct.pack(">HHI", tag, kind, count) + place
    return struct.pack(">H", len(fields)) + entries + bytes(4) + values


def photos() -> dict[str, bytes]:
    """Return the test files by the peculiarity of their location."""
    image = quadrants()
    files = {
        f"{kind}, {name}": ENCODERS[kind](image, exif(place))
        for name, place in PLACES.items()
        for kind in ("jpeg", "png", "webp")  # the other encoders reject malformed data
    }
    files |= {f"{kind}, all": ENCODERS[kind](image, exif(RIGHT)) for kind in ENCODERS}
    whole = exif(RIGHT)
    for cut in (8, 20, 60):
        files[f"the last {cut} bytes of EXIF are missing"] = saved(image, "JPEG", exif=whole[:-cut])
    at = whole.find(struct.pack(">H", IFD.GPSInfo))
    files["the directory is elsewhere"] = saved(
        image, "JPEG", exif=whole[: at + 8] + b"\x0f\xff\xff\xff" + whole[at + 12 :]
    )
    xmp = f'<x:xmpmeta exif:GPSLatitude="51,28.{NUMBER}N" place="{WORD}"/>'.encode()
    files["XMP"] = saved(image, "JPEG", xmp=xmp, exif=whole)
    files["a comment"] = saved(image, "JPEG", comment=f"{WORD} {NUMBER}", exif=whole)
    text = PngImagePlugin.PngInfo()
    text.add_text("Location", f"{WORD} {NUMBER}")
    files["text in a PNG"] = saved(image, "PNG", pnginfo=text, exif=whole)
    files["truncated"] = saved(image, "JPEG", exif=whole)[:-1500]
    files["damaged HEIC"] = heic(image, KYOCERA.exif())[:-300]
    broken = bytearray(saved(image, "JPEG", exif=whole))
    broken[-2000:-1000] = bytes(1000)
    files["damaged JPEG"] = bytes(broken)
    files["no picture"] = f"GPSLatitude {NUMBER} {WORD}".encode() * 100
    files["a picture that is called by a place"] = b"RIFF" + WORD.encode() * 50
    return files


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with photo_stage(tmp_path, SLUICE_LOG_LEVEL="debug") as opened:
        yield opened


@pytest.mark.long
async def test_locations_leak_into_no_log_event_error_or_thumbnail(stage: Stage) -> None:
    async with running(stage.processor()) as process:
        commits = [
            await stage.complete(f"{number}.jpg", data)
            for number, data in enumerate(photos().values())
        ]
        # One stored object is replaced: it fails its checksum and becomes a dead letter.
        lost = await stage.complete("lost.jpg", saved(quadrants(), "JPEG", exif=exif(RIGHT)))
        await stage.objects.put(lost.object, BytesBody(WORD.encode()), ObjectAttributes())
        await stage.relay()
        results = await stage.processed(*commits, lost)
        metrics = await asyncio.to_thread(read, f"http://{process.metrics_address}/metrics")
        events = await stage.catalogue.outbox(10_000)
        assert await asyncio.to_thread(process.stop) == 0
    locations = [one.location for one in results if one.location is not None]
    assert len(locations) > 5, "no locations were extracted, so the test proves nothing"
    assert {one.state for one in results} == {ProcessingState.PROCESSED, ProcessingState.FAILED}
    known = {f"{value:.4f}"[:-1] for one in locations for value in numbers(one)}
    said = "\n".join([process.log.read_text(), metrics, repr(events), *map(shown, results)])
    assert "node.failed" in said
    for word in (*PRINTED, *known):
        assert word not in said
    small = await thumbnails(stage, results)
    assert len(small) > 20
    for data in small:
        assert not any(packed in data for packed in PACKED)
        assert not any(word.encode() in data for word in PRINTED)
    assert all(word.encode() not in row.event.payload for row in events for word in PRINTED)
    assert all(packed not in row.event.payload for row in events for packed in PACKED)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read()).decode()


def numbers(location: Mapping[str, Any]) -> list[float]:
    return [location[name] for name in ("latitude", "longitude") if name in location]


def shown(result: Processing) -> str:
    """Return all fields of a result except the location."""
    return f"{result.reason} {result.detail} {result.content_type} {json.dumps(dict(result.exif))}"


async def thumbnails(stage: Stage, results: list[Processing]) -> list[bytes]:
    return [
        b"".join([block async for block in stage.objects.read(one.object, 0, one.size_bytes)])
        for result in results
        for one in result.thumbnails
    ]
