"""Contract of object stores: presigned requests of clients that have no credentials."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
from yarl import URL

from sluice_core.errors import InvalidArgument, NotFound
from sluice_core.objects.body import BytesBody
from sluice_core.objects.marks import marked_path, path_mark
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore, PresignedPut
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, MIN_PART_BYTES, ObjectRef
from support.object_stores import BUCKET, LARGE, PLAIN, REF, assert_rejected, read, same_parts

PHOTO = ObjectAttributes("image/avif", metadata=path_mark("2026/Grüße.avif"))
CONTENT = bytes(range(256)) * 1024
FOREVER = 3600


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def verbatim(url: str) -> URL:
    """Return the URL as a browser sends it: aiohttp would escape it anew."""
    return URL(url, encoded=True)


async def put(
    http: aiohttp.ClientSession,
    signed: PresignedPut,
    data: bytes,
    changes: Mapping[str, str] | None = None,
) -> int:
    """Send a body with the signed headers, as a browser does; return the status."""
    headers = {**signed.headers, **(changes or {})}
    async with http.put(verbatim(signed.url), data=io.BytesIO(data), headers=headers) as response:
        await response.read()
        return response.status


async def test_signed_put_stores_the_object(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    signed = await signing.presign_put(REF, FOREVER, len(CONTENT), PHOTO)
    assert await put(http, signed, CONTENT) == 200
    assert await read(signing) == CONTENT
    info = await signing.head(REF)
    assert info is not None
    assert (info.size, info.content_type) == (len(CONTENT), "image/avif")
    assert marked_path(info.metadata) == "2026/Grüße.avif"


async def test_a_repeated_put_keeps_the_object(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    """A photo that is taken over keeps its bytes, whoever repeats its PUT."""
    signed = await signing.presign_put(REF, FOREVER, 3, PHOTO)
    assert await put(http, signed, b"abc") == 200
    # S3 does not compare the bytes; a store in files does, so there a repeat is a success.
    assert await put(http, signed, b"abc") in (200, 412)
    assert await put(http, signed, b"xyz") in (409, 412)
    renewed = await signing.presign_put(REF, FOREVER, 3, PHOTO)
    assert await put(http, renewed, b"xyz") in (409, 412)
    assert await read(signing) == b"abc"


async def test_of_concurrent_puts_one_makes_the_object(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    signed = await signing.presign_put(REF, FOREVER, MIB, PHOTO)
    contents = [bytes([number]) * MIB for number in range(4)]
    statuses = await asyncio.gather(*(put(http, signed, content) for content in contents))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    assert await read(signing) == contents[statuses.index(200)]


async def test_a_deleted_object_can_be_put_again(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    signed = await signing.presign_put(REF, FOREVER, 3, PHOTO)
    assert await put(http, signed, b"abc") == 200
    await signing.delete(REF)
    assert await put(http, signed, b"xyz") == 200
    assert await read(signing) == b"xyz"


async def test_signed_headers_are_those_that_a_page_may_set(signing: ObjectStore) -> None:
    """Fetch forbids Content-Length and Host (https://fetch.spec.whatwg.org/#forbidden-header-name)."""
    puts = [
        await signing.presign_put(REF, FOREVER, 7, PHOTO, crc32c=1),
        await signing.presign_part(REF, "0" * 32, 1, FOREVER, 7, crc32c=1),
    ]
    names = {name for signed in puts for name in signed.headers}
    assert not names & {"content-length", "host"}
    assert all(name == name.lower() for name in names)


async def test_an_empty_object_can_be_put(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    assert await put(http, await signing.presign_put(REF, FOREVER, 0, PHOTO), b"") == 200
    assert await read(signing) == b""


@pytest.mark.parametrize("key", ["a b+c/~ü&%41=?#;:@,'\"()*!$.jpg", "a/..b/...", "日本語/%2e%2e"])
async def test_any_key_can_be_signed(
    signing: ObjectStore, http: aiohttp.ClientSession, key: str
) -> None:
    ref = ObjectRef(BUCKET, key)
    assert await put(http, await signing.presign_put(ref, FOREVER, 3, PLAIN), b"abc") == 200
    assert await read(signing, ref) == b"abc"
    async with http.get(verbatim(await signing.presign_get(ref, FOREVER, "ü +%.jpg"))) as response:
        assert (response.status, await response.read()) == (200, b"abc")


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (CONTENT + b"x", {}),
        (CONTENT[:-1], {}),
        (b"", {}),
        (CONTENT, {"content-type": "text/html"}),
        (CONTENT, {"content-type": "image/avif; charset=utf-8"}),
    ],
    ids=["longer", "shorter", "empty", "another type", "a parameter more"],
)
async def test_other_length_or_type_is_refused(
    signing: ObjectStore,
    http: aiohttp.ClientSession,
    data: bytes,
    changes: Mapping[str, str],
) -> None:
    signed = await signing.presign_put(REF, FOREVER, len(CONTENT), PHOTO)
    assert await put(http, signed, data, changes) == 403
    assert await signing.head(REF) is None


async def test_signed_checksum_is_enforced(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    signed = await signing.presign_put(REF, FOREVER, 3, PHOTO, crc32c=crc32c(b"abc"))
    assert await put(http, signed, b"xyz") in (400, 422)
    assert await signing.head(REF) is None
    assert await put(http, signed, b"abc") == 200
    other = base64.b64encode(crc32c(b"xyz").to_bytes(4, "big")).decode()
    assert await put(http, signed, b"xyz", {"x-amz-checksum-crc32c": other}) >= 400
    assert await read(signing) == b"abc"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (REF.key, f"{REF.key}-2"),
        (f"/{BUCKET}/", "/another/"),
        ("?", "?x-id=PutObject&"),
    ],
    ids=["key", "bucket", "a parameter more"],
)
async def test_altered_url_is_refused(
    signing: ObjectStore, http: aiohttp.ClientSession, old: str, new: str
) -> None:
    signed = await signing.presign_put(REF, FOREVER, 3, PHOTO)
    url = signed.url.replace(old, new, 1)
    assert url != signed.url
    # Stores may look for the bucket first.
    assert await put(http, PresignedPut(url, signed.headers), b"abc") in (403, 404)
    assert await signing.head(REF) is None


async def test_url_of_one_method_serves_no_other(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    await signing.put(REF, BytesBody(b"abc"), PHOTO)
    signed = await signing.presign_put(REF, FOREVER, 3, PHOTO)
    async with http.get(signed.url) as response:
        assert response.status == 403
    url = await signing.presign_get(REF, FOREVER, "x")
    async with http.put(url, data=b"xyz") as response:
        assert response.status == 403
    async with http.delete(url) as response:
        assert response.status in (403, 405)
    assert await read(signing) == b"abc"


# ------------------------------------------------------------------ parts


async def test_signed_parts_become_an_object(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    """The server completes by its own list: a page cannot read an ETag that is not exposed."""
    contents = {3: b"3" * 10, 1: b"1" * MIN_PART_BYTES, 2: b"2" * (MIN_PART_BYTES + MIB)}
    multipart_id = await signing.open_multipart(REF, PHOTO)
    for number, content in contents.items():
        signed = await signing.presign_part(REF, multipart_id, number, FOREVER, len(content))
        assert await put(http, signed, content) == 200
    assert await signing.head(REF) is None
    listed = await signing.list_parts(REF, multipart_id)
    assert [(tag.number, tag.size) for tag in listed] == [
        (number, len(content)) for number, content in sorted(contents.items())
    ]
    await signing.complete_multipart(REF, multipart_id, listed)
    assert await read(signing) == b"".join(content for _, content in sorted(contents.items()))
    info = await signing.head(REF)
    assert info is not None
    assert marked_path(info.metadata) == "2026/Grüße.avif"


async def test_parts_may_lack_a_checksum(signing: ObjectStore, http: aiohttp.ClientSession) -> None:
    """A page that went on without its checksums, or curl, sends them bare."""
    multipart_id = await signing.open_multipart(REF, PHOTO, by_clients=True)
    for number, content in ((1, LARGE), (2, b"bare")):
        sent = crc32c(content) if content == LARGE else None
        signed = await signing.presign_part(
            REF, multipart_id, number, FOREVER, len(content), crc32c=sent
        )
        assert await put(http, signed, content) == 200
    listed = await signing.list_parts(REF, multipart_id)
    await signing.complete_multipart(REF, multipart_id, listed, by_clients=True)
    assert await read(signing) == LARGE + b"bare"


async def test_a_part_may_be_sent_again(signing: ObjectStore, http: aiohttp.ClientSession) -> None:
    multipart_id = await signing.open_multipart(REF, PHOTO)
    checksum = crc32c(b"abc")
    signed = await signing.presign_part(REF, multipart_id, 1, FOREVER, 3, crc32c=checksum)
    for _ in range(2):
        assert await put(http, signed, b"abc") == 200
    (tag,) = await signing.list_parts(REF, multipart_id)
    await signing.complete_multipart(REF, multipart_id, [tag])
    assert await read(signing) == b"abc"


async def test_part_url_covers_one_part_of_one_size(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    multipart_id, other_id = [await signing.open_multipart(REF, PHOTO) for _ in range(2)]
    signed = await signing.presign_part(REF, multipart_id, 1, FOREVER, 3)
    for old, new in (("partNumber=1", "partNumber=2"), (multipart_id, other_id)):
        url = signed.url.replace(old, new)
        assert url != signed.url
        assert await put(http, PresignedPut(url, {}), b"abc") == 403
    for data in (b"ab", b"abcd"):
        assert await put(http, signed, data) == 403
    for id_ in (multipart_id, other_id):
        assert same_parts(await signing.list_parts(REF, id_), [])


async def test_part_of_an_unknown_multipart_is_not_found(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    multipart_id = await signing.open_multipart(REF, PHOTO)
    signed = await signing.presign_part(REF, multipart_id, 1, FOREVER, 3)
    await signing.abort_multipart(REF, multipart_id)
    assert await put(http, signed, b"abc") == 404


async def test_unsignable_requests_are_rejected(signing: ObjectStore) -> None:
    for number in (0, 10_001):
        await assert_rejected(
            signing.presign_part(REF, "0" * 32, number, FOREVER, 1),
            InvalidArgument,
            "BAD_PART_NUMBER",
        )
    await assert_rejected(
        signing.presign_part(REF, "..", 1, FOREVER, 1), NotFound, "MULTIPART_NOT_FOUND"
    )
    for key in ("", "a//b", "a/../b", "/a", "."):
        ref = ObjectRef(BUCKET, key)
        for call in (
            signing.presign_get(ref, FOREVER, "x"),
            signing.presign_put(ref, FOREVER, 1, PLAIN),
            signing.presign_part(ref, "0" * 32, 1, FOREVER, 1),
        ):
            await assert_rejected(call, InvalidArgument, "BAD_KEY")
    for attributes, reason in (
        (ObjectAttributes("image/jpeg\r\n"), "BAD_CONTENT_TYPE"),
        (ObjectAttributes(metadata={"a": "b\r\nc: d"}), "BAD_METADATA"),
    ):
        await assert_rejected(
            signing.presign_put(REF, FOREVER, 1, attributes), InvalidArgument, reason
        )


# ------------------------------------------------------------------ downloads


async def test_signed_get_is_a_download_of_fixed_type(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    await signing.put(REF, BytesBody(CONTENT), ObjectAttributes("text/html"))
    async with http.get(
        verbatim(await signing.presign_get(REF, FOREVER, 'Grüße "2".avif'))
    ) as response:
        assert (response.status, await response.read()) == (200, CONTENT)
        assert response.headers["content-type"] == "application/octet-stream"
        assert (
            response.headers["content-disposition"]
            == "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%222%22.avif"
        )


async def test_signed_get_serves_ranges(signing: ObjectStore, http: aiohttp.ClientSession) -> None:
    await signing.put(REF, BytesBody(CONTENT), PHOTO)
    url = await signing.presign_get(REF, FOREVER, "x")
    for wanted, part in (
        ("bytes=5-9", CONTENT[5:10]),
        (f"bytes={len(CONTENT) - 3}-", CONTENT[-3:]),
        ("bytes=-7", CONTENT[-7:]),
        (f"bytes=1000-{1 << 40}", CONTENT[1000:]),
    ):
        async with http.get(url, headers={"range": wanted}) as response:
            assert (response.status, await response.read()) == (206, part)
    async with http.get(url, headers={"range": f"bytes={len(CONTENT)}-"}) as response:
        assert response.status == 416


async def test_missing_object_is_not_found(
    signing: ObjectStore, http: aiohttp.ClientSession
) -> None:
    async with http.get(await signing.presign_get(REF, FOREVER, "x")) as response:
        assert response.status == 404
