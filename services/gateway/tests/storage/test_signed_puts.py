"""PUT to the embedded object listener, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.url_keys import open_url_keys
from sluice_core.errors import Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.objects.marks import marked_path
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, ObjectRef
from sluice_gateway.http.paced_bodies import Pace
from support.listener_requests import (
    CONTENT,
    MINUTE,
    PHOTO,
    REF,
    SIZE,
    assert_nothing_stored,
    put_body,
    raw_put,
    signed,
)
from support.object_listener import BUCKET, ListenerProcess, ObjectListener, running_listener
from support.object_stores import read
from support.raw_http import RawClient, RawResponse
from support.redis_server import free_port
from support.waiting import until

BRISK = Pace(stall_seconds=0.3, min_bytes=1024)


# ------------------------------------------------------------------ whole objects


async def test_put_object_is_stored_and_announced(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    url = await signed(listener)
    async with http.put(
        url, data=io.BytesIO(CONTENT), headers={"content-type": "image/jpeg"}
    ) as response:
        assert response.status == 200
        etag = response.headers["etag"]
        checksum = base64.b64decode(response.headers["x-amz-checksum-crc32c"])
    assert int.from_bytes(checksum, "big") == crc32c(CONTENT)
    assert await read(listener.store, REF) == CONTENT
    info = await listener.store.head(REF)
    assert info is not None
    assert (etag, info.crc32c, info.content_type) == (
        f'"{info.etag}"',
        crc32c(CONTENT),
        "image/jpeg",
    )
    assert marked_path(info.metadata) == "job/Grüße.jpg"
    assert info.metadata["empty"] == ""
    assert listener.created == [REF]
    assert listener.leftovers() == []


async def test_metadata_comes_from_the_url_alone(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    headers = {"content-type": "image/jpeg", "x-amz-meta-sluice-path": "mine", "x-amz-meta-b": "c"}
    assert await put_body(http, await signed(listener), CONTENT, headers) == (200, None)
    info = await listener.store.head(REF)
    assert info is not None
    assert info.metadata == PHOTO.metadata


async def test_half_a_body_leaves_nothing(listener: ObjectListener) -> None:
    client = await raw_put(listener, await signed(listener), SIZE)
    await client.send(CONTENT[: SIZE // 2])
    await until(lambda: len(listener.leftovers()) == 1, what="bytes on disk")
    assert await listener.store.head(REF) is None, "no part of an object is visible"
    client.abort()
    await assert_nothing_stored(listener)


async def test_object_appears_with_its_last_byte(listener: ObjectListener) -> None:
    client = await raw_put(listener, await signed(listener), SIZE)
    await client.send(CONTENT[:-1])
    await until(lambda: len(listener.leftovers()) == 1, what="bytes on disk")
    assert await listener.store.head(REF) is None
    await client.send(CONTENT[-1:])
    assert (await client.response()).status == 200
    assert await read(listener.store, REF) == CONTENT


async def test_bytes_beyond_the_length_are_the_next_request(listener: ObjectListener) -> None:
    client = await raw_put(listener, await signed(listener, b"abc"), 3)
    await client.send(b"abcGET /objects HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert [(await client.response()).status for _ in range(2)] == [200, 404]
    assert await read(listener.store, REF) == b"abc"


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"content-length": "4"}, 403, "SIGNED_LENGTH_DIFFERS"),
        ({"content-length": "0"}, 403, "SIGNED_LENGTH_DIFFERS"),
        ({}, 411, "LENGTH_REQUIRED"),
        ({"transfer-encoding": "chunked"}, 411, "LENGTH_REQUIRED"),
        ({"content-length": "3", "content-type": "text/html"}, 403, "SIGNED_TYPE_DIFFERS"),
        ({"content-length": "3", "content-type": ""}, 403, "SIGNED_TYPE_DIFFERS"),
        ({"content-length": "3", "content-type": "IMAGE/JPEG"}, 403, "SIGNED_TYPE_DIFFERS"),
        ({"content-length": "3", "x-amz-checksum-crc32c": "!"}, 400, "BAD_CHECKSUM"),
        ({"content-length": "3", "x-amz-checksum-crc32c": "AAAA"}, 400, "BAD_CHECKSUM"),
        ({"content-length": "3", "x-amz-checksum-crc32c": ""}, 400, "BAD_CHECKSUM"),
        ({"content-length": "3", "x-amz-checksum-crc32c": "AAAAAA=="}, 422, "CHECKSUM_MISMATCH"),
    ],
)
async def test_other_request_than_signed_is_refused(
    listener: ObjectListener, headers: Mapping[str, str], status: int, reason: str
) -> None:
    client = await listener.connect()
    url = await signed(listener, b"abc")
    await client.send_head("PUT", url, {"content-type": "image/jpeg", **headers})
    if "transfer-encoding" in headers:
        await client.send(b"3\r\nabc\r\n0\r\n\r\n")
    elif headers.get("content-length", "0") != "0":
        await client.send(b"abc")
    response = await client.response()
    assert (response.status, response.problem["reason"]) == (status, reason)
    assert response.problem["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    await assert_nothing_stored(listener)


async def test_refusal_arrives_while_the_body_is_sent(listener: ObjectListener) -> None:
    """A connection that closes at once resets, and a client that still sends loses the answer."""
    client = await raw_put(listener, await signed(listener), SIZE + 1)
    await client.send(CONTENT + b"y")
    response = await client.response()
    assert (response.status, response.problem["reason"]) == (403, "SIGNED_LENGTH_DIFFERS")
    assert response.headers["connection"] == "close"
    assert await client.is_closed()


async def test_refusal_comes_before_the_body_is_asked_for(listener: ObjectListener) -> None:
    """With `Expect: 100-continue` a refused body is never sent."""
    client = await listener.connect()
    head = {"content-type": "image/jpeg", "expect": "100-continue"}
    url = await signed(listener)
    await client.send_head("PUT", url, {**head, "content-length": str(SIZE - 1)})
    assert (await client.response()).status == 403
    client = await listener.connect()
    await client.send_head("PUT", url, {**head, "content-length": str(SIZE)})
    assert (await client.response()).status == 100
    await client.send(CONTENT)
    assert (await client.response()).status == 200


async def test_signed_checksum_is_enforced(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    put_url = await listener.store.presign_put(REF, MINUTE, 3, PHOTO, crc32c=crc32c(b"abc"))
    status, problem = await put_body(http, put_url.url, b"xyz")
    assert (status, problem["reason"]) == (422, "CHECKSUM_MISMATCH")
    await assert_nothing_stored(listener)
    assert await put_body(http, put_url.url, b"abc") == (200, None)


# ------------------------------------------------------------------ pace and memory


async def test_silent_sender_is_ended(tmp_path: Path) -> None:
    async with running_listener(tmp_path, pace=BRISK) as listener:
        client = await raw_put(listener, await signed(listener), SIZE)
        await client.send(CONTENT[:100_000])
        response = await client.response()
        assert (response.status, response.problem["reason"]) == (408, "MESSAGE_STALLED")
        assert await client.is_closed()
        await assert_nothing_stored(listener)


async def test_trickling_sender_is_ended(tmp_path: Path) -> None:
    """It never pauses for as long as the limit, yet its bytes are too few."""
    async with running_listener(tmp_path, pace=BRISK) as listener:
        client = await raw_put(listener, await signed(listener), SIZE)
        answer = asyncio.create_task(client.response())
        while not answer.done():
            await client.send(b"x")
            await asyncio.sleep(0.02)
        assert (await answer).problem["reason"] == "MESSAGE_STALLED"
        await assert_nothing_stored(listener)


async def test_slow_but_steady_sender_is_served(tmp_path: Path) -> None:
    """The whole takes several times the limit, because each interval brings enough."""
    pace = Pace(stall_seconds=2.0, min_bytes=1000)
    async with running_listener(tmp_path, pace=pace) as listener:
        content = CONTENT[:30_000]
        client = await raw_put(listener, await signed(listener, content), len(content))
        for start in range(0, len(content), 1000):
            await client.send(content[start : start + 1000])
            await asyncio.sleep(0.1)
        assert (await client.response()).status == 200
        assert await read(listener.store, REF) == content


@pytest.mark.measures
async def test_large_body_needs_little_memory(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    """64 MiB through the listener hold a few blocks at a time."""
    import tracemalloc

    total = 64 * MIB
    url = (await listener.store.presign_put(REF, MINUTE, total, PHOTO)).url
    block = b"m" * (256 * 1024)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(total // len(block)):
            yield block

    headers = {"content-type": "image/jpeg", "content-length": str(total)}
    gc.collect()
    tracemalloc.start()
    try:
        assert await put_body(http, url, blocks(), headers) == (200, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    info = await listener.store.head(REF)
    assert info is not None
    assert info.size == total


# ------------------------------------------------------------------ notifications and failures


async def test_failed_notification_fails_the_request(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    """The client repeats it, and so the notification is sent at least once."""
    listener.failures = [Unavailable("QUEUE_DOWN", "Try again."), RuntimeError("hidden cause")]
    url = await signed(listener, b"abc")
    status, problem = await put_body(http, url, b"abc")
    assert (status, problem["reason"]) == (503, "QUEUE_DOWN")
    status, problem = await put_body(http, url, b"abc")
    assert (status, problem["reason"]) == (500, "INTERNAL")
    assert "hidden" not in str(problem)
    assert listener.created == []
    assert await put_body(http, url, b"abc") == (200, None)
    assert listener.created == [REF]


async def test_parts_are_not_announced(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    multipart_id = await listener.store.open_multipart(REF, PHOTO)
    part = await listener.store.presign_part(REF, multipart_id, 1, MINUTE, 3)
    assert await put_body(http, part.url, b"abc", {}) == (200, None)
    assert listener.created == []


async def test_half_a_part_leaves_the_one_before(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    multipart_id = await listener.store.open_multipart(REF, PHOTO)
    part = await listener.store.presign_part(REF, multipart_id, 1, MINUTE, SIZE)
    assert await put_body(http, part.url, CONTENT, {}) == (200, None)
    before = await listener.store.list_parts(REF, multipart_id)
    client = await raw_put(listener, part.url, SIZE)
    await client.send(b"z" * (SIZE // 2))
    await until(lambda: len(listener.leftovers()) == 1, what="bytes on disk")
    client.abort()
    await until(lambda: not listener.leftovers(), what="temporary files removed")
    assert await listener.store.list_parts(REF, multipart_id) == before


async def test_killed_between_parts_goes_on(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """kill -9 after one part, and in the middle of another: parts and URLs survive."""
    port = free_port()
    async with running_listener(tmp_path) as before:
        multipart_id = await before.store.open_multipart(REF, PHOTO)
    server = ListenerProcess(tmp_path, port)
    try:
        server.start()
        keys = await open_url_keys(tmp_path / "url-keys.json")
        urls = SignedUrls(keys, f"http://127.0.0.1:{port}/objects")
        parts = [
            await urls.part(REF, multipart_id, number, MINUTE, 5 * MIB + number)
            for number in (1, 2)
        ]
        contents = [bytes([number]) * (5 * MIB + number) for number in (1, 2)]
        assert await put_body(http, parts[0].url, contents[0], {}) == (200, None)
        async with RawClient.connected(port) as client:
            length = {"content-length": str(len(contents[1]))}
            await client.send_head("PUT", parts[1].url, length)
            await client.send(contents[1][: 2 * MIB])
            temporary = tmp_path / "objects" / BUCKET / "tmp"
            await until(lambda: any(temporary.iterdir()), what="bytes on disk")
            server.kill()
        server.start()
        assert await put_body(http, parts[1].url, contents[1], {}) == (200, None)
        whole = await urls.put(ObjectRef(BUCKET, "whole"), MINUTE, 3, PHOTO)
        assert await put_body(http, whole.url, b"abc") == (200, None)
        assert (tmp_path / "created.txt").read_text() == "whole\n"
    finally:
        server.kill()
    async with running_listener(tmp_path) as after:
        listed = await after.store.list_parts(REF, multipart_id)
        assert [tag.size for tag in listed] == [len(content) for content in contents]
        await after.store.complete_multipart(REF, multipart_id, listed)
        assert await read(after.store, REF) == b"".join(contents)
        assert after.leftovers() == []


async def test_put_replaces_nothing_that_an_upload_stored(
    listener: ObjectListener, http: aiohttp.ClientSession
) -> None:
    await listener.store.put(REF, BytesBody(b"old"), PHOTO)
    status, problem = await put_body(http, await signed(listener, b"new"), b"new")
    assert (status, problem["reason"]) == (409, "OBJECT_EXISTS")
    assert await read(listener.store, REF) == b"old"


def test_raw_response_reads_problems() -> None:
    """The client of these tests reads an answer to its end, and no further."""
    assert RawResponse(403, {}, b'{"reason": "A"}').problem["reason"] == "A"


async def test_refused_urls_go_to_the_audit_log(listener: ObjectListener) -> None:
    """A signed URL is a credential like a token, and it names nobody."""
    client = await listener.connect()
    url = await signed(listener, b"abc")
    await client.send_head("PUT", f"{url}0", {"content-length": "0"})
    assert (await client.response()).problem["reason"] == "URL_SIGNATURE_INVALID"
    [entry] = listener.refusals.entries
    assert (entry.tenant, entry.action, entry.object) == ("", "Authenticate", "")
    assert (entry.outcome, entry.peer) == ("URL_SIGNATURE_INVALID", "127.0.0.1")
