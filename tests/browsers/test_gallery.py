"""The gallery: thumbnails as they come, filters, details, tags, deletion with undo, download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.async_api import expect

from browsers.support.engines import Engine, Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site
from browsers.support.visitor import Visitor, visit
from support.pictures import as_stored, exif, quadrants, saved
from support.waiting import until

PHOTOS = 6
# Elements that can be used, other than those of an open photo and of the messages above it.
IN_REACH = """
() => [...document.querySelectorAll("a[href], button, input, select")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !one.closest("[role=dialog], [role=status], [inert]")).length
"""


def exif_photo(photos: PhotoFiles, name: str = "contax.jpg") -> Path:
    """Return a photo with every detail that a camera notes, its place as well."""
    return photos.written(name, saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6)))


async def with_photos(visitor: Visitor, files: Sequence[Path]) -> None:
    """Upload photos, and go to the gallery with all of their thumbnails."""
    await visitor.log_in()
    await visitor.choose(files)
    await visitor.panel.expect_completed(len(files))
    await visitor.panel.button("collapse").click()  # it is above a part of the gallery
    await visitor.go_to("gallery")
    await visitor.gallery.expect_thumbnails(len(files))


async def photo_names(site: Site, query: str = "") -> set[str]:
    """Return the file names of the photos that the server lists."""
    page = await site.call("GET", f"/queries/photos?size=100{query}")
    return {item["filename"] for item in page["items"]}


async def test_thumbnails_come_as_photos_complete(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """The gallery is open in a second tab while the first one uploads."""
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        tab = Visitor(site, visitor.context, await visitor.context.new_page(), visitor.observed)
        await tab.open("/photos")
        await expect(tab.page.get_by_text(tab.text("gallery.emptyTitle"))).to_be_visible()
        await visitor.choose(photos.thumbs(PHOTOS))
        await visitor.panel.expect_completed(PHOTOS)
        await visitor.go_to("gallery")
        await visitor.gallery.expect_thumbnails(PHOTOS)
        await visitor.observed.assert_silent(visitor.page)


async def test_filters_narrow_the_list(opened: Opened, site: Site, photos: PhotoFiles) -> None:
    """By name, and by tag; the address has the filters, so that a reload keeps them."""
    files = [*photos.thumbs(3, "lake"), *photos.thumbs(2, "hill")]
    async with visit(site, opened) as visitor:
        await with_photos(visitor, files)
        await visitor.gallery.search("hill")
        await visitor.gallery.expect_thumbnails(2)
        await visitor.page.reload()
        await visitor.gallery.expect_thumbnails(2)
        await visitor.gallery.search("nothing like this")
        await expect(visitor.page.get_by_text(visitor.text("gallery.noMatchTitle"))).to_be_visible()
        await visitor.gallery.button("gallery.clearFilters").first.click()
        await visitor.gallery.expect_thumbnails(5)
        await visitor.observed.assert_silent(visitor.page)


async def test_details_show_exif_and_place_on_request(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """The place is not in the page before somebody asks for it."""
    async with visit(site, opened) as visitor:
        await with_photos(visitor, [exif_photo(photos)])
        view = await visitor.gallery.open("contax.jpg")
        await expect(view.get_by_text("Contax N Digital")).to_be_visible()
        await expect(view.get_by_text("1/250")).to_be_visible()
        assert "51.47" not in await visitor.page.content()
        await view.get_by_role("button", name=visitor.text("photo.showPlace")).click()
        await expect(view.get_by_text("51.47").first).to_be_visible()
        await visitor.observed.assert_silent(visitor.page)


async def test_tags_are_added_and_removed(opened: Opened, site: Site, photos: PhotoFiles) -> None:
    """Of one photo in its view; the gallery filters by it."""
    files = photos.thumbs(3, "tagged")
    async with visit(site, opened) as visitor:
        await with_photos(visitor, files)
        view = await visitor.gallery.open("tagged_0002.jpg")
        field = view.get_by_role("combobox", name=visitor.text("photo.addTag")).or_(
            view.get_by_role("textbox", name=visitor.text("photo.addTag"))
        )
        await field.press_sequentially("Ferien")
        await field.press("Enter")
        remove = view.get_by_role("button", name=visitor.text("photo.removeTag", tag="Ferien"))
        await expect(remove).to_be_visible()

        async def is_tagged() -> bool:
            return await photo_names(site, "&tag=Ferien") == {"tagged_0002.jpg"}

        await until(is_tagged, what="the server has the tag")
        await visitor.page.goto(f"{site.url}/photos?tag=Ferien")
        await visitor.gallery.expect_thumbnails(1)
        view = await visitor.gallery.open("tagged_0002.jpg")
        await view.get_by_role("button", name=visitor.text("photo.removeTag", tag="Ferien")).click()

        async def is_untagged() -> bool:
            return await photo_names(site, "&tag=Ferien") == set()

        await until(is_untagged, what="the server has removed the tag")
        await visitor.observed.assert_silent(visitor.page)


async def test_deletion_can_be_undone(opened: Opened, site: Site, photos: PhotoFiles) -> None:
    """Undone: the server hears nothing. Not undone: the photo is gone."""
    files = photos.thumbs(3, "deleted")
    names = {file.name for file in files}
    async with visit(site, opened) as visitor:
        await with_photos(visitor, files)
        await visitor.gallery.select("deleted_0001.jpg")
        await visitor.gallery.button("gallery.delete").click()
        await expect(visitor.gallery.photos).to_have_count(2)
        await visitor.gallery.button("gallery.undo").click()
        await visitor.gallery.expect_thumbnails(3)
        assert await photo_names(site) == names
        await visitor.gallery.select("deleted_0002.jpg")
        await visitor.gallery.button("gallery.delete").click()
        await expect(visitor.gallery.photos).to_have_count(2)

        async def is_gone() -> bool:
            return await photo_names(site) == names - {"deleted_0002.jpg"}

        await until(is_gone, what="the server has deleted the photo")
        await visitor.page.reload()
        await visitor.gallery.expect_thumbnails(2)
        await visitor.observed.assert_silent(visitor.page)


async def test_download_is_the_original(chromium: Opened, site: Site, photos: PhotoFiles) -> None:
    """Byte for byte, under its name."""
    (file,) = photos.thumbs(1, "original")
    async with visit(site, chromium) as visitor:
        await with_photos(visitor, [file])
        view = await visitor.gallery.open(file.name)
        async with visitor.page.expect_download() as started:
            download = visitor.text("photo.download")
            await (
                view.get_by_role("button", name=download)
                .or_(view.get_by_role("link", name=download))
                .click()
            )
        finished = await started.value
        assert finished.suggested_filename == file.name
        path = await finished.path()
        assert path.read_bytes() == file.read_bytes()
        await visitor.observed.assert_silent(visitor.page)


def contents_of(files: Sequence[Path]) -> list[bytes] | None:
    """Return the sorted contents; None while a download is being renamed under its reader."""
    try:
        return sorted(each.read_bytes() for each in files)
    except OSError:
        return None


def test_renamed_download_is_not_saved_yet(tmp_path: Path) -> None:
    """Firefox renames `photo.part` between the listing of a folder and its reading."""
    part = tmp_path / "photo.part"
    part.write_bytes(b"photo")
    listed = list(tmp_path.iterdir())
    saved_as = part.rename(tmp_path / "photo.jpg")
    assert contents_of(listed) is None
    assert contents_of([saved_as]) == [b"photo"]


@pytest.mark.slow
async def test_several_downloads_are_the_originals(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """Byte for byte, one file each, on the disk: of Firefox's downloads Playwright says nothing."""
    files = photos.camera(3, "several")
    async with visit(site, opened) as visitor:
        await with_photos(visitor, files)
        for file in files:
            await visitor.gallery.select(file.name)
        names: list[str] = []
        visitor.page.on("download", lambda begun: names.append(begun.suggested_filename))
        originals = sorted(file.read_bytes() for file in files)

        before = set(opened.downloads.iterdir())  # of tests that shared the browser

        def new_files() -> list[Path]:
            return [each for each in opened.downloads.iterdir() if each not in before]

        def are_saved() -> bool:
            return contents_of(new_files()) == originals

        await visitor.gallery.button("gallery.download").click()
        await until(are_saved, what="the originals are saved")
        if opened.engine is Engine.FIREFOX:  # others save under a name of Playwright's
            names = [each.name for each in new_files()]
        assert sorted(names) == [file.name for file in files]
        await visitor.observed.assert_silent(visitor.page)


async def test_nothing_behind_an_open_photo_is_in_reach(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """Neither by keys nor for readers of screens; all of it is back when the photo is closed."""
    (file,) = photos.thumbs(1, "covered")
    async with visit(site, opened) as visitor:
        await with_photos(visitor, [file])
        behind = await visitor.page.evaluate(IN_REACH)
        assert behind > 10
        view = await visitor.gallery.open(file.name)
        assert await visitor.page.evaluate(IN_REACH) == 0
        for _ in range(12):
            await visitor.page.keyboard.press("Tab")
            await expect(view.locator(":focus")).to_have_count(1)
        await visitor.page.keyboard.press("Escape")
        await expect(view).to_have_count(0)
        assert await visitor.page.evaluate(IN_REACH) == behind
        await expect(visitor.gallery.photo(file.name)).to_be_focused()


@pytest.mark.slow
async def test_hundreds_of_photos_scroll_in_pages(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """Only photos near the window are in the document; the last one is reached by scrolling."""
    count = 300
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        await visitor.choose(photos.thumbs(count, "many"))
        await visitor.panel.expect_completed(count)
        await visitor.go_to("gallery")
        await expect(visitor.gallery.photos.first).to_be_visible()
        seen: set[str] = set()

        async def is_all_seen() -> bool:
            await visitor.page.mouse.move(600, 400)
            await visitor.page.mouse.wheel(0, 700)
            links = "links => links.map((one) => one.dataset.photo)"
            drawn = await visitor.gallery.grid.get_by_role("link").evaluate_all(links)
            assert len(drawn) < count
            seen.update(drawn)
            return len(seen) == count

        await until(is_all_seen, 60, what="all photos were drawn")
        await visitor.observed.assert_silent(visitor.page)
