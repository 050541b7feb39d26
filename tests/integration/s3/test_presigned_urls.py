"""URLs that the store signs: what they allow and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from sluice_core.objects.body import BytesBody
from sluice_core.objects.marks import marked_path, path_mark
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.uploads.model import MIB, ObjectRef
from support.object_stores import read as read_object
from support.s3_account import S3Account

PLAIN = ObjectAttributes()
CONTENT = bytes(range(256)) * (3 * MIB // 256)
SECOND = b"2" * 1000


async def test_presigned_get_downloads_object(store: ObjectStore, ref: ObjectRef) -> None:
    await store.put(ref, BytesBody(CONTENT), ObjectAttributes("image/avif"))
    url = await store.presign_get(ref, 60, 'Grüße "2".avif')
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        assert await response.read() == CONTENT
        disposition = response.headers["content-disposition"]
    assert disposition == "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%222%22.avif"


@pytest.mark.parametrize("claimed", ["text/html", "image/svg+xml", "image/jpeg"])
async def test_presigned_url_serves_one_fixed_type(
    store: ObjectStore, ref: ObjectRef, claimed: str
) -> None:
    """A browser must not render a page that was uploaded as a picture."""
    await store.put(ref, BytesBody(b"<html><script>alert(1)"), ObjectAttributes(claimed))
    url = await store.presign_get(ref, 60, "x.jpg")
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
    async with aiohttp.ClientSession() as session:
        forged = url.replace("application%2Foctet-stream", "text%2Fhtml")
        assert forged != url
        async with session.get(forged) as answer:
            assert answer.status == 403


async def test_presigned_url_covers_one_object_and_expires(
    store: ObjectStore, ref: ObjectRef
) -> None:
    await store.put(ref, BytesBody(b"x"), PLAIN)
    url = await store.presign_get(ref, 1, "x")
    async with aiohttp.ClientSession() as session:
        async with session.get(url.replace("node-1", "node-2")) as response:
            assert response.status == 403
        await asyncio.sleep(2.1)
        async with session.get(url) as response:
            assert response.status == 403


async def test_presigned_put_accepts_signed_request(store: ObjectStore, ref: ObjectRef) -> None:
    signed = await store.presign_put(ref, 60, len(SECOND), ObjectAttributes("image/avif"))
    async with (
        aiohttp.ClientSession() as session,
        session.put(signed.url, data=SECOND, headers=signed.headers) as response,
    ):
        assert response.status == 200, await response.text()
    assert await read_object(store, ref) == SECOND


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (SECOND + b"more", {"content-length": str(len(SECOND) + 4)}),
        (SECOND[:-1], {"content-length": str(len(SECOND) - 1)}),
        (SECOND, {"content-type": "text/html"}),
        (SECOND, {"x-amz-storage-class": "REDUCED_REDUNDANCY"}),
    ],
    ids=["longer", "shorter", "another type", "another class"],
)
async def test_presigned_put_rejects_changed_request(
    store: ObjectStore, ref: ObjectRef, data: bytes, changes: dict[str, str]
) -> None:
    attributes = ObjectAttributes("image/avif", storage_class="STANDARD")
    signed = await store.presign_put(ref, 60, len(SECOND), attributes)
    headers = {**signed.headers, **changes}
    async with (
        aiohttp.ClientSession() as session,
        session.put(signed.url, data=data, headers=headers) as response,
    ):
        assert response.status == 403, await response.text()
    assert await store.head(ref) is None


MARKED = ObjectAttributes("image/avif", metadata=path_mark("2026/Grüße.avif"))


async def test_metadata_is_returned_by_head(store: ObjectStore, ref: ObjectRef) -> None:
    await store.put(ref, BytesBody(SECOND), MARKED)
    parts = ObjectRef(ref.bucket, f"{ref.key}-in-parts")
    multipart_id = await store.open_multipart(parts, MARKED)
    tag = await store.put_part(parts, multipart_id, 1, BytesBody(SECOND))
    await store.complete_multipart(parts, multipart_id, [tag])
    by_url = ObjectRef(ref.bucket, f"{ref.key}-by-url")
    signed = await store.presign_put(by_url, 60, len(SECOND), MARKED)
    async with (
        aiohttp.ClientSession() as session,
        session.put(signed.url, data=SECOND, headers=signed.headers) as response,
    ):
        assert response.status == 200, await response.text()
    for each in (ref, parts, by_url):
        info = await store.head(each)
        assert info is not None
        assert (info.content_type, marked_path(info.metadata)) == ("image/avif", "2026/Grüße.avif")


@pytest.mark.parametrize("change", [path_mark("mine.avif"), {}], ids=["another", "none"])
async def test_presigned_put_rejects_changed_path(
    store: ObjectStore, ref: ObjectRef, account: S3Account, change: dict[str, str]
) -> None:
    """MinIO responds 400 AccessDenied when a signed header is missing."""
    refused = 400 if account.kind == "minio" and not change else 403
    signed = await store.presign_put(ref, 60, len(SECOND), MARKED)
    headers = {name: text for name, text in signed.headers.items() if "x-amz-meta" not in name}
    headers |= {f"x-amz-meta-{name}": text for name, text in change.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.put(signed.url, data=SECOND, headers=headers) as response,
    ):
        assert response.status == refused, await response.text()
    assert await store.head(ref) is None


async def test_presigned_urls_use_public_endpoint(open_store: Any, ref: ObjectRef) -> None:
    store = await open_store(public_endpoint_url="https://photos.example.org")
    signed = await store.presign_put(ref, 60, 1, PLAIN)
    for url in (await store.presign_get(ref, 60, "x"), signed.url):
        assert urlsplit(url).netloc == "photos.example.org"
