"""GET and HEAD of the embedded object listener, and its CORS rules, over a real socket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_core.configuration import ConfigurationError
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes, ObjectInfo
from sluice_core.uploads.model import MIB, ObjectRef
from sluice_gateway.http.paced_bodies import Pace
from sluice_gateway.storage.listener import ListenerOptions
from support.object_listener import BUCKET, ORIGIN, ObjectListener, running_listener
from support.object_stores import store_parts
from support.waiting import until

REF = ObjectRef(BUCKET, "tenant/photos/node-1")
HTML = ObjectAttributes("text/html")
SIZE = 2 * MIB + 5
CONTENT = bytes(range(256)) * (SIZE // 256) + b"x" * (SIZE % 256)
MINUTE = 60
FOREIGN = "https://evil.example"


async def stored(listener: ObjectListener, content: bytes = CONTENT) -> ObjectInfo:
    return await listener.store.put(REF, BytesBody(content), HTML)


async def signed(listener: ObjectListener, filename: str = "x.jpg") -> str:
    return await listener.store.presign_get(REF, MINUTE, filename)


# ------------------------------------------------------------------ downloads


async def test_download_is_nothing_that_a_browser_renders(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    info = await stored(listener)
    async with http.get(await signed(listener, 'a"\r\nb/ü.jpg')) as response:
        assert (response.status, await response.read()) == (200, CONTENT)
        headers = response.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''a%22%0D%0Ab%2F%C3%BC.jpg"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["etag"] == f'"{info.etag}"'
    assert headers["accept-ranges"] == "bytes"
    assert "no-cache" in headers["cache-control"]


async def test_head_answers_like_get_without_body(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await stored(listener)
    url = await signed(listener)
    varying = ("date", "x-request-id", "x-trace-id")
    for headers, status in (({}, 200), ({"range": "bytes=3-4"}, 206)):
        async with http.get(url, headers=headers) as got, http.head(url, headers=headers) as head:
            assert (got.status, head.status) == (status, status)
            assert await head.read() == b""
            assert {n: v for n, v in got.headers.items() if n.lower() not in varying} == {
                n: v for n, v in head.headers.items() if n.lower() not in varying
            }


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        (f"bytes={MIB - 1}-{MIB}", MIB - 1, MIB + 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-5", SIZE - 5, SIZE),
        (f"bytes=0-{1 << 60}", 0, SIZE),
    ],
)
async def test_single_range_is_served(
    listener: ObjectListener, http: aiohttp.ClientSession, wanted: str, start: int, stop: int
) -> None:
    await stored(listener)
    async with http.get(await signed(listener), headers={"range": wanted}) as response:
        assert (response.status, await response.read()) == (206, CONTENT[start:stop])
        assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert response.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "lines=1-2", "bytes=5-4", "bytes=x"])
async def test_other_ranges_are_ignored(
    listener: ObjectListener, http: aiohttp.ClientSession, wanted: str
) -> None:
    await stored(listener)
    async with http.get(await signed(listener), headers={"range": wanted}) as response:
        assert (response.status, await response.read()) == (200, CONTENT)
        assert "content-range" not in response.headers


async def test_range_beyond_the_end_is_not_satisfiable(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await stored(listener)
    headers = {"range": f"bytes={SIZE}-"}
    async with http.get(await signed(listener), headers=headers) as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["reason"]) == (416, "RANGE_NOT_SATISFIABLE")
        assert response.headers["content-range"] == f"bytes */{SIZE}"


async def test_empty_object_is_served(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await stored(listener, b"")
    async with http.get(await signed(listener)) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_object_in_parts_is_served_across_them(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    from support.object_stores import REF as PARTS

    multipart_id, tags = await store_parts(listener.store, CONTENT * 3, b"end")
    await listener.store.complete_multipart(PARTS, multipart_id, tags)
    url = await listener.store.presign_get(PARTS, MINUTE, "x")
    first = len(CONTENT) * 3
    async with http.get(url, headers={"range": f"bytes={first - 2}-{first}"}) as response:
        assert (response.status, await response.read()) == (206, CONTENT[-2:] + b"e")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-none-match": "ETAG"}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-match": "ETAG"}, 200),
        ({"if-match": '"other"'}, 412),
        ({"range": "bytes=0-1", "if-range": "ETAG"}, 206),
        ({"range": "bytes=0-1", "if-range": '"other"'}, 200),
        ({"range": "bytes=0-1", "if-none-match": "ETAG"}, 304),
    ],
)
async def test_conditional_requests(
    listener: ObjectListener,
    http: aiohttp.ClientSession,
    headers: Mapping[str, str],
    status: int,
) -> None:
    etag = f'"{(await stored(listener)).etag}"'
    sent = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    async with http.get(await signed(listener), headers=sent) as response:
        body = await response.read()
        assert response.status == status
        if status == 304:
            assert body == b""
            assert response.headers["etag"] == etag
    # The connection serves the next request.
    async with http.get(await signed(listener)) as response:
        assert await response.read() == CONTENT


async def test_missing_object_is_a_problem(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    async with http.get(await signed(listener)) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["reason"]) == (404, "OBJECT_NOT_FOUND")
    assert problem["type"] == "urn:sluice:reason:OBJECT_NOT_FOUND"


async def test_download_url_is_for_reading_alone(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await stored(listener)
    async with http.put(await signed(listener), data=b"x") as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["reason"]) == (403, "URL_SIGNATURE_INVALID")


async def test_expired_download_is_refused(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await stored(listener)
    url = await signed(listener)
    listener.clock.now += MINUTE
    async with http.get(url) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["reason"]) == (403, "URL_EXPIRED")


async def test_problems_carry_the_ids_of_the_request(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    """The same problem details as those of the API."""
    url = (await signed(listener)) + "x"
    async with http.get(url, headers={"x-request-id": "r-1"}) as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["requestId"]) == (403, "r-1")
        assert problem["traceId"] == response.headers["x-trace-id"]


# ------------------------------------------------------------------ while it is read


async def test_reader_keeps_the_object_that_is_deleted(listener: ObjectListener) -> None:
    await stored(listener, CONTENT * 8)
    client = await listener.connect()
    await client.send_head("GET", await signed(listener), {})
    assert (await client.head()).status == 200
    await listener.store.delete(REF)
    got = b""
    while len(got) < len(CONTENT) * 8:
        got += await client.read(1 << 20)
    assert got == CONTENT * 8


async def test_reader_that_takes_nothing_is_ended(tmp_path: Path) -> None:
    """Its object is let go, so that the bytes of a deleted one are removed."""
    async with running_listener(tmp_path, pace=Pace(stall_seconds=0.2)) as listener:
        await stored(listener, CONTENT * 16)
        client = await listener.connect()
        await client.send_head("GET", await signed(listener), {})
        assert (await client.head()).status == 200
        await listener.store.delete(REF)
        assert listener.leftovers(), "the reader holds the bytes"
        await until(lambda: not listener.leftovers(), what="the object let go")


async def test_vanished_reader_lets_the_object_go(listener: ObjectListener) -> None:
    await stored(listener, CONTENT * 16)
    client = await listener.connect()
    await client.send_head("GET", await signed(listener), {})
    assert (await client.head()).status == 200
    await listener.store.delete(REF)
    assert listener.leftovers(), "the reader holds the bytes"
    client.abort()
    await until(lambda: not listener.leftovers(), what="the object let go")


async def test_vanished_reader_ends_the_reading(tmp_path: Path) -> None:
    """Of a large object no more is read than was under way when the client went."""
    sent = 0
    is_over = False

    def counting(app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            async def count(message: Message) -> None:
                nonlocal sent
                sent += len(message.get("body", b""))
                await send(message)

            nonlocal is_over
            await app(scope, receive, count)
            is_over = True

        return serve

    async with running_listener(tmp_path, wrap=counting) as listener:
        await stored(listener, CONTENT * 16)
        client = await listener.connect()
        await client.send_head("GET", await signed(listener), {})
        assert (await client.head()).status == 200
        before = sent
        client.abort()
        await until(lambda: is_over, what="the end of the request")
        assert sent <= before + 8 * MIB < SIZE * 16


async def test_damaged_object_is_never_served_whole(listener: ObjectListener) -> None:
    await stored(listener)
    (file,) = [each for each in listener.root.rglob("00001-*") if each.is_file()]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    client = await listener.connect()
    await client.send_head("GET", await signed(listener), {})
    assert (await client.head()).status == 200
    got = b""
    while piece := await client.read(1 << 20):
        got += piece
    assert len(got) < SIZE


# ------------------------------------------------------------------ CORS


async def test_configured_origin_may_put_and_read(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await stored(listener)
    url = await signed(listener)
    preflight = {
        "origin": ORIGIN,
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type,x-amz-checksum-crc32c",
    }
    async with http.options(url, headers=preflight) as response:
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "PUT" in response.headers["access-control-allow-methods"]
    async with http.get(url, headers={"origin": ORIGIN}) as response:
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "ETag" in response.headers["access-control-expose-headers"]
        assert "origin" in response.headers["vary"].lower()
        assert "access-control-allow-credentials" not in response.headers
        # Pages show it as a picture, without CORS: their origin has another port.
        assert "cross-origin-resource-policy" not in response.headers
    # A page can read why it was refused.
    async with http.get(f"{url}x", headers={"origin": ORIGIN}) as response:
        assert response.status == 403
        assert response.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(
    "origin",
    [FOREIGN, "null", f"{ORIGIN}.evil.example", "http://127.0.0.1:8081", "https://127.0.0.1:8080"],
)
async def test_foreign_origin_is_not_allowed(
    listener: ObjectListener, http: aiohttp.ClientSession, origin: str
) -> None:
    await stored(listener)
    url = await signed(listener)
    preflight = {"origin": origin, "access-control-request-method": "PUT"}
    async with http.options(url, headers=preflight) as response:
        assert response.status == 400
        assert "access-control-allow-origin" not in response.headers
    for target in (url, f"{url}x"):
        async with http.get(target, headers={"origin": origin}) as response:
            assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("method", "header"), [("DELETE", ""), ("PUT", "authorization"), ("PUT", "x-other")]
)
async def test_preflight_allows_what_urls_need_alone(
    listener: ObjectListener, http: aiohttp.ClientSession, method: str, header: str
) -> None:
    preflight = {"origin": ORIGIN, "access-control-request-method": method}
    if header:
        preflight["access-control-request-headers"] = header
    async with http.options(await signed(listener), headers=preflight) as response:
        assert response.status == 400


@pytest.mark.parametrize(
    "origin", ["*", "null", "", "http://a/", "http://a/b", "HTTP://a", "a.b", "https://*.a.b"]
)
def test_impossible_origin_is_a_configuration_error(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="no origin of a page"):
        ListenerOptions((origin,))
