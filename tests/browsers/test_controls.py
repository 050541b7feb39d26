"""Pause, resume, cancel, retry, reorder and clear while a hundred photos upload."""

from __future__ import annotations

import json
import re

import pytest
from playwright.async_api import expect

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site
from browsers.support.visitor import Visitor, visit
from support.http_faults import HttpFault
from support.network_faults import Faults
from support.waiting import until

PHOTOS = 100
SLOW = Faults(bytes_per_second=60_000, slice_bytes=4096)
TYPE = (("content-type", "application/problem+json"),)
STALLED = Faults(stalled=True)


async def statuses_settle(site: Site, wanted: dict[str, int]) -> None:
    """Wait until the server has these numbers of photos by status."""

    async def is_settled() -> bool:
        found = list((await site.photo_statuses()).values())
        return {status: found.count(status) for status in set(found)} == wanted

    await until(is_settled, 120, what=f"the server has {wanted}")


async def begun(site: Site, visitor: Visitor, photos: PhotoFiles, count: int = PHOTOS) -> list[str]:
    """Begin uploads on a slow network; return the names of the files in order."""
    assert site.objects is not None
    site.objects.up = SLOW
    await visitor.log_in()
    files = photos.thumbs(count)
    await visitor.choose(files)
    await until(site.puts, what="the first photo is sent")
    return [file.name for file in files]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_paused_uploads_send_nothing_until_resumed(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    async with visit(site, opened) as visitor:
        await visitor.open()
        await begun(site, visitor, photos)
        await visitor.panel.button("pauseAll").click()
        await expect(visitor.panel.button("resumeAll")).to_be_visible()
        await expect(visitor.panel.summary("paused_other")).to_be_visible()
        assert site.objects is not None
        site.objects.heal()
        done = await visitor.panel.count("completed")
        sent = len(site.puts())
        # A reload of the queries takes longer than a small photo would.
        for _ in range(5):
            await site.photo_statuses()
        assert len(site.puts()) == sent
        assert done < PHOTOS
        await visitor.panel.button("resumeAll").click()
        await visitor.panel.expect_completed(PHOTOS)
        await statuses_settle(site, {"COMPLETED": PHOTOS})
        await visitor.observed.assert_handled(visitor.page)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_cancelled_uploads_are_cancelled_at_the_server(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """One that is sent, then all the others; the job is CANCELLED or has what was finished."""
    async with visit(site, opened) as visitor:
        names = await begun(site, visitor, photos)
        assert site.objects is not None
        site.objects.up = STALLED
        await visitor.panel.show("active")
        await visitor.panel.root.get_by_role("listitem").first.scroll_into_view_if_needed()
        one = visitor.panel.root.get_by_role(
            "button", name=re.compile(visitor.text("row.cancel", name=r"small_\d+\.jpg"))
        ).first
        name = (await one.get_attribute("aria-label") or "").split(" ")[1]
        assert name in names
        await one.click()

        async def is_cancelled() -> bool:
            return (await site.photo_statuses())[name] == "CANCELLED"

        await until(is_cancelled, what=f"the server has cancelled {name}")
        await visitor.panel.button("cancelAll").click()
        dialog = visitor.page.get_by_role("alertdialog").or_(visitor.page.get_by_role("dialog"))
        await dialog.get_by_role("button", name=visitor.text("panel.cancelConfirm")).click()
        await visitor.panel.expect_count("active", 0)
        site.objects.heal()

        async def has_ended() -> bool:
            found = set((await site.photo_statuses()).values())
            return found <= {"CANCELLED", "COMPLETED"} and "CANCELLED" in found

        await until(has_ended, 60, what="the server has ended all photos")
        assert visitor.observed.errors == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_failed_upload_is_retried(
    chromium: Opened, filtered: Site, photos: PhotoFiles
) -> None:
    """There is no space for the photos; when there is, somebody asks for them again."""
    refusal = {
        "type": "about:blank",
        "title": "No space",
        "status": 507,
        "detail": "It is full.",
        "reason": "QUOTA_EXCEEDED",
        "metadata": {},
        "requestId": "1",
    }
    fault = HttpFault(
        507, json.dumps(refusal).encode(), "POST", "/commands/upload-jobs", None, TYPE
    )
    async with visit(filtered, chromium) as visitor:
        await visitor.log_in()
        filtered.gateway_faults.add(fault)
        await visitor.choose(photos.thumbs(2, "retried"))
        await visitor.panel.expect_count("failed", 2)
        await visitor.panel.show("failed")
        await visitor.panel.expect_reason("retried_0001.jpg", "QUOTA_EXCEEDED")
        filtered.gateway_faults.clear()
        await visitor.panel.action("retry", "retried_0001.jpg").click()
        await visitor.panel.expect_count("completed", 1)
        await visitor.panel.button("retryFailed").click()
        await visitor.panel.expect_completed(2)
        await visitor.panel.expect_count("failed", 0)
        await statuses_settle(filtered, {"COMPLETED": 2})


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_moved_photo_is_sent_first(chromium: Opened, site: Site, photos: PhotoFiles) -> None:
    """The last one is moved to the front by keyboard while one upload at a time is allowed."""
    count = 6
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        await visitor.set_concurrency(1)
        assert site.objects is not None
        site.objects.up = Faults(bytes_per_second=500)
        await visitor.choose(photos.thumbs(count, "order"))
        await until(site.puts, what="the first photo is sent")
        last = f"order_{count:04}.jpg"
        handle = visitor.page.get_by_role("button", name=visitor.text("queue.move", name=last))
        await handle.focus()
        await handle.press("Space")
        for _ in range(count - 2):
            await handle.press("ArrowUp")
        await handle.press("Space")
        site.objects.heal()
        await visitor.panel.expect_completed(count)
        (job,) = await site.jobs()
    arrived = await arrival_order(site, job["photos"])
    assert arrived[:3] == ["order_0001.jpg", last, "order_0002.jpg"]


async def arrival_order(site: Site, photos: list[dict[str, str]]) -> list[str]:
    """Return the file names in the order in which they were sent, by the keys of their PUTs."""
    answers = {}
    for photo in photos:
        path = f"/queries/photos/{photo['photoId']}/download-url?variant=original"
        url = (await site.call("GET", path))["url"]
        answers[url.split("?")[0].rsplit("/", 1)[1]] = photo["filename"]
    keys = [target.split("?")[0].rsplit("/", 1)[1] for target in site.puts()]
    return [answers[key] for key in dict.fromkeys(keys)]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_finished_uploads_are_cleared(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """One from the list, then all; the server keeps the photos."""
    async with visit(site, chromium) as visitor:
        await visitor.log_in()
        await visitor.choose(photos.thumbs(PHOTOS, "cleared"))
        await visitor.panel.expect_completed(PHOTOS)
        await visitor.panel.show("completed")
        await visitor.panel.action("clear", "cleared_0001.jpg").click()
        await visitor.panel.expect_count("all", PHOTOS - 1)
        await visitor.panel.button("clear").click()
        await expect(visitor.panel.root.get_by_role("listitem")).to_have_count(0)
        await statuses_settle(site, {"COMPLETED": PHOTOS})
