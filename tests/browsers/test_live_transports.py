"""Proxies that let no WebSocket, and no stream, through: live updates take the next way."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from browsers.support.engines import Opened
from browsers.support.photo_files import PhotoFiles
from browsers.support.site import Site
from browsers.support.visitor import Visitor, visit
from support.http_faults import HttpFault
from support.waiting import metric, until

PHOTOS = 20
NO_SOCKETS = HttpFault(403, b"WebSockets are not allowed here", target="/ws", times=None)
NO_STREAMS = HttpFault(502, b"the stream was cut", target="/events", times=None)


async def assert_uploads_complete(site: Site, visitor: Visitor, photos: PhotoFiles) -> None:
    """Upload photos, one of them broken, and compare what is shown with the server."""
    broken = photos.written("broken.jpg", photos.small[:-200])
    await visitor.choose([*photos.thumbs(PHOTOS), broken])
    await visitor.panel.expect_completed(PHOTOS)
    await visitor.panel.expect_count("failed", 1)
    statuses = list((await site.photo_statuses()).values())
    assert sorted(statuses) == ["COMPLETED"] * PHOTOS + ["FAILED"]
    assert visitor.observed.errors == []


@pytest.mark.slow
async def test_sse_follows_blocked_websockets(
    opened: Opened, filtered: Site, photos: PhotoFiles
) -> None:
    filtered.gateway_faults.add(NO_SOCKETS)
    async with visit(filtered, opened) as visitor:
        await visitor.log_in()
        await assert_uploads_complete(filtered, visitor, photos)
    requests = list(filtered.gateway_faults.requests)
    assert any("/events" in request for request in requests)
    assert any("/ws" in request for request in requests)


@pytest.mark.slow
async def test_polling_follows_blocked_streams(
    opened: Opened, filtered: Site, photos: PhotoFiles
) -> None:
    """At 1.5 s: no more often, with conditional requests."""
    filtered.gateway_faults.add(NO_SOCKETS)
    filtered.gateway_faults.add(NO_STREAMS)
    async with visit(filtered, opened) as visitor:
        await visitor.log_in()
        await assert_uploads_complete(filtered, visitor, photos)


@pytest.mark.slow
async def test_websocket_is_used_where_it_passes(
    opened: Opened, own_site: Site, photos: PhotoFiles
) -> None:
    """Without a fault the panel says nothing about the connection."""
    async with visit(own_site, opened) as visitor:
        await visitor.log_in()
        await visitor.choose(photos.thumbs(PHOTOS))

        async def is_live() -> bool:
            address = own_site.server.metrics_address
            return await metric(address, "sluice_gateway_live_sessions", transport="stomp") > 0

        await until(is_live, what="the page has a STOMP session")
        await visitor.panel.expect_completed(PHOTOS)
        for key in ("polling", "offline", "noNetwork"):
            note = visitor.panel.root.get_by_text(visitor.text(f"live.{key}"))
            await expect(note).to_have_count(0)
        await visitor.observed.assert_silent(visitor.page)
