"""`sluice stat` and `sluice get --thumbnail` on a machine of its own."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.cli import Sluice
from support.pictures import (
    CORNERS,
    EXIF_FACTS,
    GPS_FACTS,
    as_stored,
    close,
    corners,
    exif,
    quadrants,
    saved,
)
from support.server import StandaloneServer, standalone

SECONDS = 90.0
PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    """The processor is inside a standalone that has an event log."""
    sizes = {"SLUICE_PROCESSOR__THUMBNAIL_SIZES": "64,128"}
    with standalone(tmp_path_factory.mktemp("server") / "data", sizes) as running:
        yield running


def processed(sluice: Sluice, node: str) -> dict[str, Any]:
    """What `stat` says once the processor has looked."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        (record,) = sluice.ok("stat", node, "--json").json_lines()
        if record["processing"] is not None:
            return dict(record["processing"])
        time.sleep(0.2)
    raise AssertionError(f"{node} has no result within {SECONDS:g} s")


def test_a_photo_shows_its_facts_and_gives_its_thumbnails(sluice: Sluice, tmp_path: Path) -> None:
    photo = tmp_path / "holiday.jpg"
    photo.write_bytes(PHOTO)
    sluice.ok("upload", str(photo), "--drive", "photos")
    found = processed(sluice, "photos:holiday.jpg")
    assert (found["state"], found["width"], found["height"]) == ("PROCESSED", 320, 200)
    assert found["exif"] == EXIF_FACTS | {"orientation": 6}
    assert found["location"] == pytest.approx(GPS_FACTS)
    assert [one["size"] for one in found["thumbnails"]] == [64, 128]

    shown = sluice.ok("stat", "photos:holiday.jpg").out
    assert "dimensions        320 x 200" in shown
    assert f"camera_model      {EXIF_FACTS['camera_model']}" in shown
    assert "thumbnail 128     128 x 80, image/webp" in shown

    folder = tmp_path / "small"
    folder.mkdir()
    sluice.ok("get", "photos:holiday.jpg", str(folder), "--thumbnail", "128")
    (file,) = folder.iterdir()
    assert file.name == "holiday-128.webp"
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        assert image.size == (128, 80)
        assert close(corners(image), CORNERS)

    outcome = sluice.run("get", "photos:holiday.jpg", str(folder), "--thumbnail", "256")
    assert outcome.code == 1
    assert "there are 64, 128" in " ".join(outcome.err.split())


def test_what_is_no_photo_says_so(sluice: Sluice, tmp_path: Path) -> None:
    for name, content in (("a.pdf", b"%PDF-1.7 "), ("broken.jpg", PHOTO[:-1500])):
        (tmp_path / name).write_bytes(content)
        sluice.ok("upload", str(tmp_path / name), "--drive", "others")
    assert processed(sluice, "others:a.pdf")["content_type"] == "application/pdf"
    assert processed(sluice, "others:broken.jpg")["reason"] == "TRUNCATED"
    assert "TRUNCATED" in sluice.ok("stat", "others:broken.jpg").out
    outcome = sluice.run("get", "others:broken.jpg", "-", "--thumbnail", "64")
    assert (outcome.code, outcome.out) == (1, "")


def test_a_damaged_photo_is_shown_with_a_note(sluice: Sluice, tmp_path: Path) -> None:
    """No end, and a caption with markup: browsers show it, and so does `stat`."""
    whole = saved(quadrants(), "JPEG", comment=b"<html><b>Sunset</b>")
    for name, content in (("cut.jpg", whole[:-2]), ("whole.jpg", whole)):
        (tmp_path / name).write_bytes(content)
        sluice.ok("upload", str(tmp_path / name), "--drive", "damaged")
    found = processed(sluice, "damaged:cut.jpg")
    assert (found["state"], found["reason"], found["damaged"]) == ("PROCESSED", "", True)
    assert [one["size"] for one in found["thumbnails"]] == [64, 128]
    assert processed(sluice, "damaged:whole.jpg")["damaged"] is False
    assert "damaged" in sluice.ok("stat", "damaged:cut.jpg").out.partition("note")[2]


def test_a_drive_may_keep_no_places(sluice: Sluice, tmp_path: Path) -> None:
    photo = tmp_path / "holiday.jpg"
    photo.write_bytes(PHOTO)
    sluice.ok("drive", "create", "discreet", "--drop-location")
    sluice.ok("upload", str(photo), "--drive", "discreet")
    found = processed(sluice, "discreet:holiday.jpg")
    assert found["location"] is None
    assert found["exif"] == EXIF_FACTS | {"orientation": 6}
