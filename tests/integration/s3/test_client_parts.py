"""What clients put by URL where a store differs from S3: parts without checksums, conditions."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore, PresignedPut
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIN_PART_BYTES, ObjectRef
from support.object_stores import read as read_object
from support.s3_proxy import Request, S3Proxy, answers, error_body

PHOTO = ObjectAttributes("image/avif")
FIRST = b"1" * MIN_PART_BYTES
LAST = b"2" * 1000
ALWAYS = 1_000_000


def has_header(request: Request, name: bytes) -> bool:
    return b"\r\n" + name in request.head.lower()


class StrictParts:
    """Tells which parts a strict store refuses, by the checksum that their multipart announced.

    Args:
        takes_stray: takes a checksum that the multipart has not announced (MinIO, not Amazon S3).
        full_object_is_strict: demands checksums of FULL_OBJECT as well (MinIO, not Amazon S3).
    """

    def __init__(self, *, takes_stray: bool, full_object_is_strict: bool) -> None:
        self._takes_stray = takes_stray
        self._full_object_is_strict = full_object_is_strict
        self._demanding: dict[str, bool] = {}

    def refuses(self, request: Request) -> bool:
        path = urlsplit(request.target).path
        if request.method == "POST" and request.target.endswith("?uploads"):
            is_full = has_header(request, b"x-amz-checksum-type: full_object")
            announced = has_header(request, b"x-amz-checksum-algorithm: crc32c")
            self._demanding[path] = announced and (self._full_object_is_strict or not is_full)
            return False
        if not request.is_part:
            return False
        sent = has_header(request, b"x-amz-checksum-crc32c:")
        return not sent if self._demanding[path] else sent and not self._takes_stray


def refuses_full_object(request: Request) -> bool:
    return has_header(request, b"x-amz-checksum-type: full_object")


def minio(proxy: S3Proxy) -> None:
    strict = StrictParts(takes_stray=True, full_object_is_strict=True)
    proxy.inject(answers(400, error_body("InvalidArgument")), times=ALWAYS, when=strict.refuses)


def amazon_without_full_object(proxy: S3Proxy) -> None:
    """As Amazon S3 was before it had whole checksums of objects in parts."""
    strict = StrictParts(takes_stray=False, full_object_is_strict=False)
    proxy.inject(answers(400, error_body("InvalidRequest")), times=ALWAYS, when=refuses_full_object)
    proxy.inject(answers(400, error_body("InvalidRequest")), times=ALWAYS, when=strict.refuses)


async def put(signed: PresignedPut, content: bytes) -> int:
    async with (
        aiohttp.ClientSession() as http,
        http.put(signed.url, data=io.BytesIO(content), headers=signed.headers) as answer,
    ):
        await answer.read()
        return answer.status


@pytest.mark.parametrize("vendor", [minio, amazon_without_full_object])
async def test_parts_come_with_and_without_a_checksum(
    open_store: Any, proxy: S3Proxy, ref: ObjectRef, vendor: Callable[[S3Proxy], None]
) -> None:
    """Stores that demand the announced checksum of each part are told of none."""
    vendor(proxy)
    store: ObjectStore = await open_store(endpoint_url=proxy.url)
    await store.check(ref.bucket)
    multipart_id = await store.open_multipart(ref, PHOTO, by_clients=True)
    for number, content, crc in ((1, FIRST, crc32c(FIRST)), (2, LAST, None)):
        signed = await store.presign_part(ref, multipart_id, number, 60, len(content), crc32c=crc)
        assert await put(signed, content) == 200
    parts = await store.list_parts(ref, multipart_id)
    info = await store.complete_multipart(ref, multipart_id, parts, by_clients=True)
    assert info.size == len(FIRST + LAST)
    assert await read_object(store, ref) == FIRST + LAST


async def test_signed_checksum_of_a_part_is_verified(
    open_store: Any, proxy: S3Proxy, ref: ObjectRef
) -> None:
    """Also where the multipart has announced none."""
    minio(proxy)
    store: ObjectStore = await open_store(endpoint_url=proxy.url)
    await store.check(ref.bucket)
    multipart_id = await store.open_multipart(ref, PHOTO, by_clients=True)
    signed = await store.presign_part(ref, multipart_id, 1, 60, len(LAST), crc32c=crc32c(LAST) ^ 1)
    assert await put(signed, LAST) == 400
    assert list(await store.list_parts(ref, multipart_id)) == []


def opens_without_checksum(request: Request) -> bool:
    is_open = request.method == "POST" and request.target.endswith("?uploads")
    return is_open and not has_header(request, b"x-amz-checksum-algorithm:")


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidRequest")])
async def test_store_that_opens_no_bare_multipart_is_usable(
    open_store: Any, proxy: S3Proxy, ref: ObjectRef, status: int, code: str
) -> None:
    """What only the probe asks for must not end a process that never asks for it."""
    refusal = answers(status, error_body(code))
    proxy.inject(refusal, times=ALWAYS, when=opens_without_checksum)
    store: ObjectStore = await open_store(endpoint_url=proxy.url)
    await store.check(ref.bucket)
    multipart_id = await store.open_multipart(ref, PHOTO)
    tag = await store.put_part(ref, multipart_id, 1, BytesBody(LAST))
    await store.complete_multipart(ref, multipart_id, [tag])
    assert await read_object(store, ref) == LAST


def has_condition(request: Request) -> bool:
    return has_header(request, b"if-none-match:")


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidRequest")])
async def test_store_without_conditions_gets_none(
    open_store: Any, proxy: S3Proxy, ref: ObjectRef, status: int, code: str
) -> None:
    """It would refuse every PUT; so there a repeat replaces the object, as it always did."""
    proxy.inject(answers(status, error_body(code)), times=ALWAYS, when=has_condition)
    store: ObjectStore = await open_store(endpoint_url=proxy.url)
    await store.check(ref.bucket)
    for content in (b"abc", b"xyz"):
        assert await put(await store.presign_put(ref, 60, 3, PHOTO), content) == 200
    assert await read_object(store, ref) == b"xyz"


async def test_condition_is_signed_before_the_store_is_known(
    open_store: Any, ref: ObjectRef
) -> None:
    """Signing sends no request; and without the header the URL is worth nothing."""
    store: ObjectStore = await open_store()
    signed = await store.presign_put(ref, 60, 3, PHOTO)
    assert signed.headers["if-none-match"] == "*"
    bare = {name: text for name, text in signed.headers.items() if name != "if-none-match"}
    assert await put(PresignedPut(signed.url, bare), b"abc") in (400, 403)
    assert await put(signed, b"abc") == 200
