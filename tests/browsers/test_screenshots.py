"""Screenshots of log-in, panel and gallery against committed baselines, in both themes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from PIL import Image, ImageDraw, ImageOps
from playwright.async_api import Locator, expect

from browsers.support.engines import Opened, View
from browsers.support.photo_files import PhotoFiles
from browsers.support.screenshots import assert_looks_like
from browsers.support.site import Site
from browsers.support.visitor import Visitor, visit
from support.network_faults import Faults
from support.pictures import saved
from support.waiting import until

CRAWLING: Final = Faults(bytes_per_second=300)
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
# Turn of the hue, and lightness, of sky, light and hill.
COLOURS: Final = ((230, 32), (30, 78), (250, 22))
SHAPES: Final = ((640, 480), (480, 640), (800, 450), (500, 500), (900, 380), (600, 400))


@dataclass(frozen=True, slots=True)
class Scene:
    """A visitor with fixed pictures, and the end of the name of its screenshots."""

    visitor: Visitor
    files: Sequence[Path]
    suffix: str

    async def shoot(self, name: str, masked: Sequence[Locator] = ()) -> None:
        """Compare the page as it is, without messages, which go away by themselves."""
        dismiss = self.visitor.page.get_by_role("button", name=self.visitor.text("toasts.dismiss"))
        for _ in range(await dismiss.count()):
            await dismiss.first.click()
        await expect(dismiss).to_have_count(0)
        await self.visitor.page.mouse.move(0, 0)
        await assert_looks_like(self.visitor.page, f"{name}-{self.suffix}", masked)


def pictures(photos: PhotoFiles) -> list[Path]:
    """Return photos with these names; their pictures and times are always the same."""
    return [
        photos.written(name, landscape(width, height, seed))
        for seed, (name, (width, height)) in enumerate(zip(NAMES, SHAPES, strict=True))
    ]


def landscape(width: int, height: int, seed: int) -> bytes:
    """Return a JPEG of a sky with a sun above hills; each seed has its own colours."""
    sky, light, hill = (f"hsl({(seed * 47 + turn) % 360},55%,{share}%)" for turn, share in COLOURS)
    picture = ImageOps.colorize(Image.linear_gradient("L"), sky, light).resize((width, height))
    draw = ImageDraw.Draw(picture)
    radius, left, top = height // 9, width * (2 + seed) // 9, height // 3
    draw.ellipse((left - radius, top - radius, left + radius, top + radius), fill=light)
    for number, share in enumerate((0.62, 0.75)):
        peak = width * (3 + 4 * number) // 10
        base = int(height * share)
        slope = [(-width // 2, height), (peak, base), (width * 3 // 2, height)]
        draw.polygon(slope, fill=hill if number == 0 else sky)
    return saved(picture, "JPEG", quality=92)


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
        await visitor.log_in()
        await visitor.choose([*shown.files, broken, refused])
        await visitor.panel.open()
        await visitor.panel.expect_completed(len(shown.files))
        await visitor.panel.expect_count("failed", 2)
        await visitor.panel.button("collapse").click()
        await visitor.go_to("gallery")
        await expect(visitor.gallery.photos).to_have_count(len(shown.files) + 1)
        await visitor.gallery.expect_pictures(len(shown.files))
        await shown.shoot("gallery")
        await visitor.gallery.open(NAMES[3])
        await shown.shoot("photo", [visitor.page.get_by_text(str(datetime.now(UTC).year))])
        await visitor.page.keyboard.press("Escape")
        await visitor.go_to("upload")
        await visitor.panel.open()
        await visitor.panel.show("failed")
        await shown.shoot("panel-failed")
        assert site.objects is not None
        site.objects.up = CRAWLING
        await visitor.panel.button("collapse").click()
        await visitor.set_concurrency(2)
        await visitor.choose(photos.thumbs(12, "IMG"))
        await until(lambda: len(site.puts()) >= len(shown.files) + 3, what="two are under way")
        await visitor.panel.open()
        await visitor.panel.show("all")
        await shown.shoot("panel-active")
