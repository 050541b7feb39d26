"""Networks that fail and servers that end: uploads go on without a hand, live updates come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site, replicated_site
from browsers.support.visitor import Visitor, visit
from support.network_faults import Faults
from support.waiting import metric, until

PHOTOS = 40
CUT_SECONDS = 10.0
LIVE_SECONDS = 5.0
SLOW = Faults(bytes_per_second=400_000, slice_bytes=64 * 1024)
"""Of each of some six connections: the photos take a while."""


async def live_sessions(site: Site) -> float:
    """Return how many pages the server has STOMP sessions with."""
    name = "sluice_gateway_live_sessions"
    return await metric(site.server.metrics_address, name, transport="stomp")


@asynccontextmanager
async def uploading(site: Site, opened: Opened, photos: PhotoFiles) -> AsyncIterator[Visitor]:
    """Open a page in the middle of its uploads."""
    assert site.objects is not None
    site.objects.up = SLOW
    async with visit(site, opened) as visitor:
        await visitor.log_in()
        await visitor.choose([*photos.camera(8, "camera"), *photos.thumbs(PHOTOS - 8)])
        await until(lambda: len(site.puts()) >= 10, what="ten photos or parts are sent")
        await until(lambda: live_sessions(site), what="the page is live")
        yield visitor


async def assert_all_complete(site: Site, visitor: Visitor) -> None:
    """Wait until everything is COMPLETED by itself."""
    await visitor.panel.expect_completed(PHOTOS)
    statuses = await site.photo_statuses()
    assert (len(statuses), set(statuses.values())) == (PHOTOS, {"COMPLETED"})
    await visitor.observed.assert_silent(visitor.page)


async def seconds_until_live(site: Site) -> float:
    """Wait until a page has a STOMP session again."""

    async def is_live() -> bool:
        try:
            return await live_sessions(site) > 0
        except OSError:
            return False

    return await until(is_live, what="the page is live again")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_uploads_survive_a_network_cut(
    opened: Opened, own_site: Site, photos: PhotoFiles
) -> None:
    """No byte passes and no connection opens for ten seconds."""
    async with uploading(own_site, opened, photos) as visitor:
        async with visitor.observed.outage(visitor.page):
            own_site.cut()
            cut_at = time.monotonic()
            await visitor.panel.expect_hint("noNetwork")
            await asyncio.sleep(CUT_SECONDS - (time.monotonic() - cut_at))  # the fault itself
            own_site.heal()
            took = await seconds_until_live(own_site)
        print(f"\nlive {took:.1f} s after the network")  # noqa: T201
        await assert_all_complete(own_site, visitor)
    assert took < LIVE_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_uploads_survive_a_killed_server(
    opened: Opened, own_site: Site, photos: PhotoFiles
) -> None:
    async with uploading(own_site, opened, photos) as visitor:
        async with visitor.observed.outage(visitor.page):
            await own_site.restart()
            took = await seconds_until_live(own_site)
        print(f"\nlive {took:.1f} s after the server")  # noqa: T201
        await assert_all_complete(own_site, visitor)
    assert took < LIVE_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_offline_browser_waits_and_goes_on(
    chromium: Opened, own_site: Site, photos: PhotoFiles
) -> None:
    """The browser knows that there is no network: the panel says so, and nothing fails."""
    async with uploading(own_site, chromium, photos) as visitor:
        async with visitor.observed.outage(visitor.page):
            own_site.cut()  # of connections that are open, too, which the next line leaves
            await visitor.context.set_offline(True)
            await visitor.panel.expect_hint("noNetwork")
            await visitor.panel.expect_count("failed", 0)
            own_site.heal()
            await visitor.context.set_offline(False)
            await seconds_until_live(own_site)
        await assert_all_complete(own_site, visitor)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_uploads_go_on_at_another_replica(
    chromium: Opened, photos: PhotoFiles, tmp_path: Path
) -> None:
    """Two servers on Redis, MySQL, S3 and Kafka; one is stopped while photos are sent."""
    async with (
        replicated_site(tmp_path) as (site, second),
        visit(site, chromium) as visitor,
    ):
        await visitor.log_in()
        await visitor.choose([*photos.camera(8, "camera"), *photos.thumbs(PHOTOS - 8)])
        await until(lambda: visitor.panel.count("completed"), what="one photo is completed")
        async with visitor.observed.outage(visitor.page):
            assert await asyncio.to_thread(second.stop) == 0
            took = await seconds_until_live(site)
        print(f"\nlive {took:.1f} s after the end of a replica")  # noqa: T201
        await assert_all_complete(site, visitor)
    assert took < LIVE_SECONDS
