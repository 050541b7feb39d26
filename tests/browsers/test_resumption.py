"""Uploads that a reload, or the end of their URLs, interrupts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site, running_site
from browsers.support.visitor import Visitor, visit
from support.network_faults import Faults
from support.waiting import until

LARGE_BYTES = 200 * 1000**2
PART = re.compile(r"[?&]partNumber=(\d+)")
SLOW = Faults(bytes_per_second=4_000_000, slice_bytes=256 * 1024)
URL_SECONDS = 60
LATE_PHOTOS = 30
# As when a browser runs out of space: the records stay.
FORGET_FILES = """
async () => {
  for (const { name } of await indexedDB.databases()) {
    const opened = indexedDB.open(name);
    const db = await new Promise((done) => { opened.onsuccess = () => done(opened.result); });
    if (!db.objectStoreNames.contains("files")) { db.close(); continue; }
    const change = db.transaction("files", "readwrite");
    change.objectStore("files").clear();
    await new Promise((done) => { change.oncomplete = done; });
    db.close();
  }
}
"""


async def stored_parts(site: Site) -> tuple[str, set[int], int]:
    """Return the one photo of the account, the parts that the store has, and their number."""
    (job,) = await site.jobs()
    (photo,) = job["photos"]
    answer = await site.call("POST", f"/commands/upload/{photo['photoId']}/parts")
    stored = {part["partNumber"] for part in answer["stored"]}
    return photo["photoId"], stored, len(stored) + len(answer["parts"])


def sent_parts(site: Site) -> list[int]:
    """Return the numbers of the parts that were sent, in order."""
    return [int(found[1]) for target in site.puts() if (found := PART.search(target))]


async def interrupted_halfway(site: Site, visitor: Visitor) -> tuple[set[int], int]:
    """Leave the page when half of the parts are stored; return those, and the number of all."""

    async def is_halfway() -> bool:
        _, stored, total = await stored_parts(site)
        return len(stored) * 2 >= total

    await until(lambda: sent_parts(site), what="the upload has begun")
    await until(is_halfway, 120, what="half of the parts are stored")
    await visitor.open("/healthz")  # of the same origin, without scripts
    _, stored, total = await stored_parts(site)
    assert len(stored) < total
    return stored, total


async def come_back(visitor: Visitor) -> None:
    visitor.observed.forget()  # the icon of the page without any, which its policy blocks
    await visitor.open()
    await visitor.wait_until_in()


async def finished(site: Site, visitor: Visitor) -> Any:
    """Wait for the end; return the photo."""
    await visitor.panel.expect_completed(1)
    (job,) = await site.jobs()
    return await site.call("GET", f"/queries/photos/{job['photos'][0]['photoId']}")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_reload_sends_no_stored_part_again(
    opened: Opened, site: Site, photos: PhotoFiles
) -> None:
    """200 MB, left at 50 %: the page goes on by itself when it is loaded again."""
    assert site.objects is not None
    file = photos.sized(LARGE_BYTES)
    site.objects.up = SLOW
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        await visitor.choose([file])
        stored, total = await interrupted_halfway(site, visitor)
        before = len(sent_parts(site))
        site.objects.heal()
        await come_back(visitor)
        photo = await finished(site, visitor)
        await visitor.observed.assert_silent(visitor.page)
    assert (photo["bytes"], photo["status"]) == (LARGE_BYTES, "COMPLETED")
    resent = sent_parts(site)[before:]
    print(f"\n{len(stored)} of {total} parts at the reload, {len(resent)} sent after")  # noqa: T201
    assert len(resent) == len(set(resent))
    assert set(resent).isdisjoint(stored)
    assert set(resent) | stored <= set(range(1, total + 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_lost_file_is_chosen_again(
    opened: Opened, site: Site, photos: PhotoFiles, tmp_path: Path
) -> None:
    """The browser has not kept it. One of the same name and size with other bytes is not taken."""
    assert site.objects is not None
    size = 30 * 1000**2
    file = photos.sized(size, "mine")
    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    other.write_bytes(bytes([255, 216, 255, 224]) + bytes(size - 4))
    site.objects.up = Faults(bytes_per_second=1_000_000, slice_bytes=64 * 1024)
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        await visitor.choose([file])
        stored, _ = await interrupted_halfway(site, visitor)
        await visitor.page.evaluate(FORGET_FILES)
        before = len(sent_parts(site))
        site.objects.heal()
        await come_back(visitor)
        again = visitor.page.get_by_role("button", name=visitor.text("chooseAgain.action"))
        await expect(again).to_be_visible()
        await visitor.choose([other], "chooseAgain.action")
        await expect(visitor.toast(visitor.text("chooseAgain.noneTitle"))).to_be_visible()
        await visitor.choose([file], "chooseAgain.action")
        assert (await finished(site, visitor))["status"] == "COMPLETED"
    assert set(sent_parts(site)[before:]).isdisjoint(stored)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_dropped_file_continues_by_its_handle(
    chromium: Opened, site: Site, photos: PhotoFiles
) -> None:
    """Chromium has a handle of what was dropped: nothing has to be chosen again."""
    assert site.objects is not None
    file = photos.sized(60 * 1000**2, "dropped")
    site.objects.up = SLOW
    async with visit(site, chromium, with_picker=True) as visitor:
        await visitor.log_in()
        await visitor.drop([file])
        stored, _ = await interrupted_halfway(site, visitor)
        before = len(sent_parts(site))
        site.objects.heal()
        await come_back(visitor)
        photo = await finished(site, visitor)
    assert photo["status"] == "COMPLETED"
    assert set(sent_parts(site)[before:]).isdisjoint(stored)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_urls_that_end_are_renewed(
    chromium: Opened, photos: PhotoFiles, tmp_path: Path
) -> None:
    """The link is so slow that the last photos begin after their URLs have ended."""
    settings = {"SLUICE_GATEWAY__UPLOAD_URL_SECONDS": str(URL_SECONDS)}
    async with running_site(tmp_path, settings) as site, visit(site, chromium) as visitor:
        assert site.objects is not None
        requests: list[str] = []
        visitor.page.on("request", lambda sent: requests.append(sent.url))
        await visitor.log_in()
        await visitor.set_concurrency(2)
        files = [*photos.camera(10, "slow"), *photos.thumbs(LATE_PHOTOS - 10, "late")]
        site.objects.up = Faults(bytes_per_second=180_000, slice_bytes=16 * 1024)
        await visitor.choose(files)
        await visitor.panel.expect_completed(LATE_PHOTOS)
        await visitor.panel.expect_count("failed", 0)
        statuses = await site.photo_statuses()
        await visitor.observed.assert_silent(visitor.page)
    renewals = {url for url in requests if url.endswith("/renew")}
    print(f"\n{len(renewals)} of {LATE_PHOTOS} photos had their URLs renewed")  # noqa: T201
    assert renewals
    assert (len(statuses), set(statuses.values())) == (LATE_PHOTOS, {"COMPLETED"})
