"""`sluice stat` and `sluice get --thumbnail` with a standalone server."""

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
    """Run a standalone with an event log, which includes the processor."""
    sizes = {"SLUICE_PROCESSOR__THUMBNAIL_SIZES": "64,128"}
    with standalone(tmp_path_factory.mktemp("server") / "data", sizes) as running:
        yield running


def processed(sluice: Sluice, node: str) -> dict[str, Any]:
    """Return the processing result that `stat` shows, once there is one."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        (record,) = sluice.ok("stat", node, "--json").json_lines()
        if record["processing"] is not None:
            return dict(record["processing"])
        time.sleep(0.2)
    raise AssertionError(f"{node} has no result within {SECONDS:g} s")


def test_stat_shows_photo_facts_and_get_returns_thumbnails(sluice: Sluice, tmp_path: Path) -> None:
    photo = tmp_path / "holiday.jpg"
    photo.write_bytes(PHOTO)
    sluice.ok("upload", str(photo), "--drive", "photos")
    result = processed(sluice, "photos:holiday.jpg")
    assert (result["state"], result["width"], result["height"]) == ("PROCESSED", 320, 200)
    assert result["exif"] == EXIF_FACTS | {"orientation": 6}
    assert result["location"] == pytest.approx(GPS_FACTS)
    assert [one["size"] for one in result["thumbnails"]] == [64, 128]

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
    assert "use one of 64, 128" in " ".join(outcome.err.split())


def test_stat_reports_files_that_are_no_photos(sluice: Sluice, tmp_path: Path) -> None:
    for name, content in (("a.pdf", b"%PDF-1.7 "), ("broken.jpg", PHOTO[:-1500])):
        (tmp_path / name).write_bytes(content)
        sluice.ok("upload", str(tmp_path / name), "--drive", "others")
    assert processed(sluice, "others:a.pdf")["content_type"] == "application/pdf"
    assert processed(sluice, "others:broken.jpg")["reason"] == "TRUNCATED"
    assert "TRUNCATED" in sluice.ok("stat", "others:broken.jpg").out
    outcome = sluice.run("get", "others:broken.jpg", "-", "--thumbnail", "64")
    assert (outcome.code, outcome.out) == (1, "")


def test_stat_marks_a_damaged_photo(sluice: Sluice, tmp_path: Path) -> None:
    """A JPEG without its end marker is damaged but processed; a caption with markup is not."""
    whole = saved(quadrants(), "JPEG", comment=b"<html><b>Sunset</b>")
    for name, content in (("cut.jpg", whole[:-2]), ("whole.jpg", whole)):
        (tmp_path / name).write_bytes(content)
        sluice.ok("upload", str(tmp_path / name), "--drive", "damaged")
    result = processed(sluice, "damaged:cut.jpg")
    assert (result["state"], result["reason"], result["damaged"]) == ("PROCESSED", "", True)
    assert [one["size"] for one in result["thumbnails"]] == [64, 128]
    assert processed(sluice, "damaged:whole.jpg")["damaged"] is False
    assert "damaged" in sluice.ok("stat", "damaged:cut.jpg").out.partition("note")[2]


def test_drive_with_drop_location_stores_no_location(sluice: Sluice, tmp_path: Path) -> None:
    photo = tmp_path / "holiday.jpg"
    photo.write_bytes(PHOTO)
    sluice.ok("drive", "create", "discreet", "--drop-location")
    sluice.ok("upload", str(photo), "--drive", "discreet")
    result = processed(sluice, "discreet:holiday.jpg")
    assert result["location"] is None
    assert result["exif"] == EXIF_FACTS | {"orientation": 6}
