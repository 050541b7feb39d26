"""Tests specific to S3: checksums, capabilities, keys, encryption, accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from sluice_core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, MIN_PART_BYTES, ObjectRef
from support.object_stores import read as read_object
from support.s3_account import S3Account
from support.s3_proxy import Request, S3Proxy, answers, error_body
from support.s3_readers import reader_keys
from support.s3_server import keys_of, s3_admin

PLAIN = ObjectAttributes()
CONTENT = bytes(range(256)) * (3 * MIB // 256)
SECOND = b"2" * 1000


class WrongChecksumBody(BytesBody):
    """Body that declares a wrong CRC32C."""

    @property
    def crc32c(self) -> int:
        return super().crc32c ^ 1


async def rejection_reason(call: Any) -> str:
    with pytest.raises(SluiceError) as caught:
        await call
    return caught.value.reason


async def put_in_two_parts(store: ObjectStore, ref: ObjectRef, first: bytes) -> int | None:
    """Put an object and return its reported CRC32C."""
    multipart_id = await store.open_multipart(ref, PLAIN)
    tags = [
        await store.put_part(ref, multipart_id, 1, BytesBody(first)),
        await store.put_part(ref, multipart_id, 2, BytesBody(SECOND)),
    ]
    info = await store.complete_multipart(ref, multipart_id, tags)
    assert info.size == len(first) + len(SECOND)
    return info.crc32c


# ------------------------------------------------------------------ checksums


async def test_store_rejects_wrong_checksum(
    store: ObjectStore, ref: ObjectRef, bucket: str
) -> None:
    """The bytes reach the store, so the rejection is not our own verification."""
    multipart_id = await store.open_multipart(ref, PLAIN)
    with structlog.testing.capture_logs():
        with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH") as refused:
            await store.put(ref, WrongChecksumBody(CONTENT), PLAIN)
        assert "BadDigest" in repr(refused.value.__cause__) or "Checksum" in repr(
            refused.value.__cause__
        )
        with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
            await store.put_part(ref, multipart_id, 1, WrongChecksumBody(CONTENT))
    assert await store.head(ref) is None
    assert list(await store.list_parts(ref, multipart_id)) == []


async def test_completion_with_wrong_checksums_creates_no_object(
    store: ObjectStore, ref: ObjectRef
) -> None:
    multipart_id = await store.open_multipart(ref, PLAIN)
    tag = await store.put_part(ref, multipart_id, 1, BytesBody(CONTENT))
    other = type(tag)(tag.number, tag.etag, tag.size, crc32c(b"other"))
    reason = await rejection_reason(store.complete_multipart(ref, multipart_id, [other]))
    assert reason in ("CHECKSUM_MISMATCH", "INVALID_PART")
    assert await store.head(ref) is None


# MinIO demands the announced checksum of each part, and takes one that was not announced.
TAKES_OF_PARTS = {  # bare ones, and a stray CRC32C
    "seaweedfs": (True, True),
    "versitygw": (False, True),
    "minio": (False, True),
}


async def test_store_is_probed_once(
    open_store: Any, bucket: str, ref: ObjectRef, account: S3Account
) -> None:
    store = await open_store()
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(store.check(bucket))
        await store.put(ref, BytesBody(b"x"), PLAIN)
    (probed,) = [entry for entry in logs if entry["event"] == "object_store.probed"]
    assert probed["checks_crc32c"]
    assert probed["multipart"] == "FULL_OBJECT"
    takes = (probed["takes_bare_parts"], probed["takes_stray_crc32c"])
    assert takes == TAKES_OF_PARTS[account.kind]
    assert probed["keeps_objects"]
    assert await keys_of(bucket) == [ref.key]


def asks_for_full_object(request: Request) -> bool:
    return b"x-amz-checksum-type: full_object" in request.head.lower()


def names_a_crc32c(request: Request) -> bool:
    return b"x-amz-checksum-" in request.head.lower() and request.method != "HEAD"


async def test_composite_checksums_are_verified(
    open_store: Any, proxy: S3Proxy, bucket: str, ref: ObjectRef
) -> None:
    proxy.inject(answers(400, error_body("InvalidRequest")), times=1000, when=asks_for_full_object)
    store = await open_store(endpoint_url=proxy.url)
    await store.check(bucket)
    first = b"1" * MIN_PART_BYTES
    assert await put_in_two_parts(store, ref, first) == crc32c(first + SECOND)
    # A composite is useless without knowledge of the parts.
    info = await store.head(ref)
    assert info is not None
    assert info.crc32c is None
    assert await read_object(store, ref) == first + SECOND


async def test_bodies_are_verified_locally_without_store_checksums(
    open_store: Any, proxy: S3Proxy, bucket: str, ref: ObjectRef
) -> None:
    proxy.inject(answers(400, error_body("InvalidArgument")), times=1000, when=names_a_crc32c)
    store = await open_store(endpoint_url=proxy.url)
    await store.check(bucket)
    before = await store.put(ref, BytesBody(b"before"), PLAIN)
    assert before.crc32c is None
    for wrong in (WrongChecksumBody(b"small"), WrongChecksumBody(CONTENT)):
        assert await rejection_reason(store.put(ref, wrong, PLAIN)) == "CHECKSUM_MISMATCH"
    assert await read_object(store, ref) == b"before"
    first = b"1" * MIN_PART_BYTES
    assert await put_in_two_parts(store, ref, first) is None
    assert await read_object(store, ref) == first + SECOND


async def test_object_of_many_parts_round_trips(store: ObjectStore, ref: ObjectRef) -> None:
    contents = [bytes([n]) * (8 * MIB + n) for n in range(1, 9)]
    multipart_id = await store.open_multipart(ref, ObjectAttributes("video/mp4"))
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(store.put_part(ref, multipart_id, number, BytesBody(data)))
            for number, data in enumerate(contents, 1)
        ]
    info = await store.complete_multipart(ref, multipart_id, [task.result() for task in tasks])
    whole = b"".join(contents)
    assert (info.size, info.crc32c) == (len(whole), crc32c(whole))
    assert await read_object(store, ref) == whole


async def test_parts_are_listed_in_pages(
    store: ObjectStore, ref: ObjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_backends.s3.store._PAGE", 3)
    multipart_id = await store.open_multipart(ref, PLAIN)
    for number in range(1, 8):
        await store.put_part(ref, multipart_id, number, BytesBody(bytes([number])))
    listed = await store.list_parts(ref, multipart_id)
    assert [tag.number for tag in listed] == list(range(1, 8))


# ------------------------------------------------------------------ keys and attributes


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a/../b", "./a", "..", "ü" * 513])
async def test_ambiguous_key_is_rejected(store: ObjectStore, bucket: str, key: str) -> None:
    ref = ObjectRef(bucket, key)
    for call in (
        store.put(ref, BytesBody(b"x"), PLAIN),
        store.head(ref),
        store.delete(ref),
        store.open_multiparts(ref),
        store.presign_get(ref, 60, "x"),
    ):
        assert await rejection_reason(call) == "BAD_KEY"


async def test_content_type_is_kept(store: ObjectStore, ref: ObjectRef) -> None:
    await store.put(ref, BytesBody(b"x"), ObjectAttributes("image/avif"))
    async with s3_admin() as client:
        head = await client.head_object(Bucket=ref.bucket, Key=ref.key)
    assert head["ContentType"] == "image/avif"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (ObjectAttributes(encryption="rot13"), "BAD_ENCRYPTION"),
        (ObjectAttributes(encryption="aws:kms:"), "BAD_ENCRYPTION"),
        (ObjectAttributes(storage_class="cheap"), "BAD_STORAGE_CLASS"),
    ],
)
async def test_invalid_attributes_are_rejected(
    store: ObjectStore, ref: ObjectRef, attributes: ObjectAttributes, reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        await store.put(ref, BytesBody(b"x"), attributes)


async def test_unknown_storage_class_is_rejected(
    store: ObjectStore, ref: ObjectRef, account: S3Account
) -> None:
    """versitygw has no classes and accepts every name."""
    put = store.put(ref, BytesBody(b"x"), ObjectAttributes(storage_class="NO_SUCH_CLASS"))
    if account.kind == "versitygw":
        assert (await put).size == 1
    else:
        with pytest.raises(InvalidArgument, match="BAD_STORAGE_CLASS"):
            await put


async def test_encryption_and_storage_class_are_sent(
    open_store: Any, proxy: S3Proxy, bucket: str, ref: ObjectRef
) -> None:
    store = await open_store(endpoint_url=proxy.url)
    await store.check(bucket)
    heads: list[bytes] = []

    def record(request: Request) -> bool:
        heads.append(request.head)
        return True

    proxy.inject(answers(400, error_body("InvalidRequest")), times=2, when=record)
    attributes = ObjectAttributes("text/plain", "STANDARD_IA", "aws:kms:alias/photos")
    assert await rejection_reason(store.put(ref, BytesBody(b"x"), attributes)) == "STORE_REFUSED"
    assert await rejection_reason(store.open_multipart(ref, attributes)) == "STORE_REFUSED"
    for head in heads:
        assert b"x-amz-storage-class: STANDARD_IA" in head
        assert b"x-amz-server-side-encryption: aws:kms\r\n" in head
        assert b"x-amz-server-side-encryption-aws-kms-key-id: alias/photos" in head


# ------------------------------------------------------------------ buckets and accounts


async def test_missing_bucket_is_named(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match=r"BUCKET_NOT_FOUND.*'no-such-bucket'"):
        await store.check("no-such-bucket")


async def test_check_rejects_read_only_account(
    open_store: Any, account: S3Account, bucket: str
) -> None:
    store = await open_store(**await reader_keys(account, bucket))
    with pytest.raises(PermissionDenied, match=f"STORE_DENIED.*{bucket!r}"):
        await store.check(bucket)


async def test_wrong_secret_is_denied_and_not_shown(
    open_store: Any, bucket: str, ref: ObjectRef
) -> None:
    store = await open_store(secret_key=SecretStr("wrong-secret"))
    for call in (store.check(bucket), store.head(ref), store.put(ref, BytesBody(b"x"), PLAIN)):
        with pytest.raises(PermissionDenied, match="STORE_DENIED") as refused:
            await call
        assert "wrong-secret" not in str(refused.value)


async def test_unreachable_store_is_unavailable(open_store: Any, bucket: str) -> None:
    store = await open_store(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await store.check(bucket)


async def test_read_limit_rejects_readers_only(
    open_store: Any, bucket: str, ref: ObjectRef
) -> None:
    store = await open_store(max_reads=2, max_connections=1)
    await store.put(ref, BytesBody(CONTENT), PLAIN)
    readers: list[AsyncIterator[bytes]] = [store.read(ref, 0, len(CONTENT)) for _ in range(3)]
    for reader in readers[:2]:
        await anext(reader)
    with pytest.raises(ResourceExhausted, match="STORE_READS"):
        await anext(readers[2])
    await store.put(ref, BytesBody(b"in the meantime"), PLAIN)
    for reader in readers[:2]:
        await reader.aclose()  # type: ignore[attr-defined]
    assert await read_object(store, ref) == b"in the meantime"


async def test_rejected_completion_leaves_bucket_empty(store: ObjectStore, ref: ObjectRef) -> None:
    multipart_id = await store.open_multipart(ref, PLAIN)
    tag = await store.put_part(ref, multipart_id, 1, BytesBody(b"small"))
    last = await store.put_part(ref, multipart_id, 2, BytesBody(b"end"))
    with pytest.raises(FailedPrecondition, match="PART_TOO_SMALL"):
        await store.complete_multipart(ref, multipart_id, [tag, last])
    await store.abort_multipart(ref, multipart_id)
    assert await keys_of(ref.bucket) == []
