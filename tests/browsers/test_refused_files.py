"""One file of a hundred that cannot be uploaded: the others finish, and the reason is shown."""

from __future__ import annotations

import pytest

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site
from browsers.support.visitor import visit

OTHERS = 99


@pytest.mark.slow
async def test_corrupt_photo_fails_with_its_reason(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """It is found by the processor, after it was sent."""
    broken = photos.written("broken.jpg", photos.small[: len(photos.small) // 2])
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        await visitor.choose([*photos.thumbs(50), broken, *photos.thumbs(OTHERS - 50, "more")])
        await visitor.panel.expect_completed(OTHERS)
        await visitor.panel.expect_count("failed", 1)
        await visitor.panel.show("failed")
        await visitor.panel.expect_reason("broken.jpg", "TRUNCATED")
        (job,) = await site.jobs()
        counts = (job["completedCount"], job["failedCount"])
        assert (job["status"], *counts) == ("COMPLETED_WITH_ERRORS", OTHERS, 1)
        await visitor.observed.assert_silent(visitor.page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("notes.txt", 100, "UNSUPPORTED_CONTENT_TYPE"),
        ("huge.jpg", 201 * 1024**2, "BAD_PHOTO_SIZE"),
        ("empty.jpg", 0, "EMPTY_FILE"),
    ],
)
async def test_unsuitable_file_is_refused_before_sending(
    chromium: Opened, site: Site, photos: PhotoFiles, name: str, size: int, reason: str
) -> None:
    """The server does not hear of it; its job has the other ones."""
    file = photos.written(name, b"")
    with file.open("r+b") as content:
        content.truncate(size)
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        await visitor.choose([*photos.thumbs(OTHERS), file])
        await visitor.panel.expect_completed(OTHERS)
        await visitor.panel.expect_count("failed", 1)
        await visitor.panel.show("failed")
        await visitor.panel.expect_reason(name, reason)
        (job,) = await site.jobs()
        assert (job["status"], job["totalCount"]) == ("COMPLETED", OTHERS)


async def test_duplicate_in_a_batch_is_marked(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """The same bytes chosen twice are sent once."""
    files = photos.thumbs(3, "twice")
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        await visitor.choose([*files, files[0]])
        await visitor.panel.expect_completed(3)
        await visitor.panel.show("all")
        note = visitor.panel.root.get_by_text(visitor.text("phase.duplicate"), exact=True)
        assert await note.count() == 1
        assert len(await site.photo_statuses()) == 3
