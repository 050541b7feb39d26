"""Screenshots of log-in, panel and gallery against committed baselines, in both themes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Locator, expect

from bench.load.photos import photo
from browsers.support.engines import Opened, View
from browsers.support.photo_files import PhotoFiles
from browsers.support.screenshots import assert_looks_like
from browsers.support.site import Site
from browsers.support.visitor import Visitor, visit
from support.network_faults import Faults
from support.waiting import until

NOW: Final = datetime(2026, 6, 17, 12, 0, tzinfo=UTC)
STALLED: Final = Faults(stalled=True)
SIZES: Final = {"desktop": (1280, 800), "tablet": (820, 1180), "phone": (390, 844)}
EACH_SIZE: Final = pytest.mark.parametrize("size", SIZES)
EACH_THEME: Final = pytest.mark.parametrize("theme", ["dark", "light"])
# Names that are long, from right to left, and of one letter.
NAMES: Final = (
    "IMG_2024-06-01_a-very-long-name-of-a-photo-from-the-lake-at-sunset-final-version-2.jpg",
    "صورة من البحر.jpg",
    "תמונה.jpg",
    "DSC_0042.jpg",
    "a.jpg",
    "Grüße aus Österreich.jpg",
)
SHAPES: Final = ((640, 480), (480, 640), (800, 450), (500, 500), (900, 380), (600, 400))


@dataclass(frozen=True, slots=True)
class Scene:
    """A visitor with fixed pictures, and the end of the name of its screenshots."""

    visitor: Visitor
    files: Sequence[Path]
    suffix: str

    async def shoot(self, name: str, masked: Sequence[Locator] = ()) -> None:
        await self.visitor.page.mouse.move(0, 0)
        await assert_looks_like(self.visitor.page, f"{name}-{self.suffix}", masked)


def pictures(photos: PhotoFiles) -> list[Path]:
    """Return photos with these names; their pictures and times are always the same."""
    return [
        photos.written(name, photo(width, height, seed, quality=80))
        for seed, (name, (width, height)) in enumerate(zip(NAMES, SHAPES, strict=True))
    ]


def scene(visitor: Visitor, photos: PhotoFiles, size: str, theme: str) -> Scene:
    return Scene(visitor, pictures(photos), f"{theme}-{size}")


def view_of(size: str, theme: str) -> View:
    return View(SIZES[size], theme == "dark", is_touch=size != "desktop")


@EACH_THEME
@EACH_SIZE
async def test_screenshot_of_first_pages(
    chromium: Opened, site: Site, photos: PhotoFiles, size: str, theme: str
) -> None:
    """The log-in, and the pages of somebody who has no photo yet."""
    async with visit(site, chromium, view_of(size, theme)) as visitor:
        shown = scene(visitor, photos, size, theme)
        await visitor.open()
        await visitor.expect_logged_out()
        await shown.shoot("log-in")
        await visitor.log_in()
        await expect(visitor.page.get_by_text(visitor.text("drop.title"))).to_be_visible()
        await shown.shoot("upload-empty")
        await visitor.go_to("gallery")
        await expect(visitor.page.get_by_text(visitor.text("gallery.emptyTitle"))).to_be_visible()
        await shown.shoot("gallery-empty")


@EACH_THEME
@EACH_SIZE
async def test_screenshot_of_panel_and_gallery(
    chromium: Opened, site: Site, photos: PhotoFiles, size: str, theme: str
) -> None:
    """Uploads that are completed, failed, refused and waiting; then the gallery and a photo."""
    broken = photos.written("broken.jpg", photos.small[:-500])
    refused = photos.written("notes.txt", b"no photo")
    async with visit(site, chromium, view_of(size, theme)) as visitor:
        shown = scene(visitor, photos, size, theme)
        await visitor.page.clock.install(time=datetime.now(UTC))
        await visitor.log_in()
        await visitor.choose([*shown.files, broken, refused])
        await visitor.panel.expect_completed(len(shown.files))
        await visitor.panel.expect_count("failed", 2)
        await visitor.go_to("gallery")
        await visitor.gallery.expect_thumbnails(len(shown.files) + 1)
        await shown.shoot("gallery")
        await visitor.gallery.open(NAMES[3])
        await shown.shoot("photo", [visitor.page.get_by_text(str(datetime.now(UTC).year))])
        await visitor.page.keyboard.press("Escape")
        await visitor.go_to("upload")
        await visitor.panel.show("failed")
        await shown.shoot("panel-failed")
        assert site.objects is not None
        site.objects.up = STALLED
        await visitor.set_concurrency(2)
        await visitor.choose(photos.thumbs(12, "IMG"))
        await until(lambda: len(site.puts()) >= len(shown.files) + 3, what="two are under way")
        await visitor.panel.show("all")
        await shown.shoot("panel-active")
