"""URLs of the embedded object listener: foreign, altered, expired and reused ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from support.listener_requests import (
    CONTENT,
    MINUTE,
    REF,
    SIZE,
    assert_nothing_stored,
    put_body,
    raw_put,
    signed,
)
from support.object_listener import BUCKET, ObjectListener, running_listener
from support.object_stores import read
from support.waiting import until


async def test_foreign_altered_and_expired_urls_are_refused(
    listener: ObjectListener, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    url = await signed(listener, b"abc")
    async with running_listener(tmp_path / "foreign") as foreign:
        foreign_url = (await signed(foreign, b"abc")).replace(foreign.base_url, listener.base_url)
    for other in (
        foreign_url,
        url.replace("node-1", "node-2"),
        url.replace("length=3", "length=4"),
        url.replace("image%2Fjpeg", "text%2Fhtml"),
        url.replace("op=put", "op=get"),
        url.replace("expires=1", "expires=2"),
        url + "&length=3",
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.partition("?")[0],
        url.replace(f"/{BUCKET}/", "/other/"),
    ):
        assert other != url
        status, problem = await put_body(http, other, b"abc")
        assert (status, problem["reason"]) == (403, "URL_SIGNATURE_INVALID"), other
    listener.clock.now += MINUTE
    status, problem = await put_body(http, url, b"abc")
    assert (status, problem["reason"]) == (403, "URL_EXPIRED")
    await assert_nothing_stored(listener)


async def test_reused_url_changes_nothing(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    """The same bytes again are the retry of a client that missed the answer; others are not."""
    url = await signed(listener, b"abc")
    assert await put_body(http, url, b"abc") == (200, None)
    before = await listener.store.head(REF)
    assert await put_body(http, url, b"abc") == (200, None)
    assert await listener.store.head(REF) == before
    assert listener.created == [REF, REF], "the first notification may have been lost"
    status, problem = await put_body(http, url, b"xyz")
    assert (status, problem["reason"]) == (409, "OBJECT_EXISTS")
    larger = await signed(listener, CONTENT)
    client = await raw_put(listener, larger, SIZE)
    response = await client.response()
    assert (response.status, response.problem["reason"]) == (409, "OBJECT_EXISTS")
    assert await read(listener.store, REF) == b"abc"
    await until(lambda: not listener.leftovers(), what="temporary files removed")


async def test_concurrent_puts_leave_one_of_theirs(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    url = await signed(listener, b"abc")
    bodies = [bytes([n]) * 3 for n in range(8)]
    results = await asyncio.gather(*(put_body(http, url, body) for body in bodies))
    winners = [body for body, (status, _) in zip(bodies, results, strict=True) if status == 200]
    assert [await read(listener.store, REF)] == winners
    assert {status for status, _ in results} == {200, 409}


@pytest.mark.parametrize(
    "path",
    [
        "/objects/sluice/../../../etc/passwd",
        "/objects/sluice/%2e%2e/%2e%2e/%2e%2e/tmp/x",
        "/objects/../tmp/x",
        "/objects/%2e%2e%2f%2e%2e/x",
        "/objects/sluice/a%00b",
        "/objects/sluice/%ff%fe",
        "//objects/sluice/x",
        "/objects//x",
        "/objects/sluice/",
        "/objects/sluice",
        "/objects",
        "/",
        "/etc/passwd",
    ],
)
async def test_path_traversal_is_refused(listener: ObjectListener, path: str) -> None:
    """With the query of a valid URL, and as no HTTP library would send it."""
    before = {each for each in listener.root.rglob("*") if each.is_file()}
    query = (await signed(listener, b"abc")).partition("?")[2]
    for method in ("PUT", "GET"):
        client = await listener.connect()
        await client.send_head(
            method, f"{path}?{query}", {"content-type": "image/jpeg", "content-length": "3"}
        )
        await client.send(b"abc")
        response = await client.response()
        assert response.status in (403, 404)
        assert response.problem["reason"] in ("URL_SIGNATURE_INVALID", "ROUTE_NOT_FOUND")
    assert {each for each in listener.root.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_allowed(listener: ObjectListener, method: str) -> None:
    client = await listener.connect()
    await client.send_head(method, await signed(listener), {})
    response = await client.response()
    assert (response.status, response.problem["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD, PUT"
