"""Tests of network and store faults: retry, reconciliation and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.s3.options import BreakerOptions, RetryOptions
from sluice_core.errors import DataLoss, NotFound, PermissionDenied, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore, PartTag
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, MIN_PART_BYTES, ObjectRef
from support.s3_proxy import (
    Fault,
    Request,
    S3Proxy,
    answers,
    breaks_after,
    error_body,
    flips_a_bit,
    hangs,
    loses_the_answer,
    resets,
    slow_down,
    takes_no_more,
)
from support.s3_server import keys_of
from support.waiting import until

PLAIN = ObjectAttributes()
SECONDS = 20.0
"""Upper bound of every wait, sufficient on a loaded machine."""

CONTENT = bytes(range(256)) * (3 * MIB // 256)
FAULTS = {
    "500": answers(500, error_body("InternalError")),
    "503 SlowDown": slow_down(),
    "503 without a body": answers(503),
    "429": answers(429),
    "a hang": hangs,
    "a reset": resets,
    "a skewed clock": answers(403, error_body("RequestTimeTooSkewed")),
    "an expired token": answers(400, error_body("ExpiredToken")),
}


def is_completion(request: Request) -> bool:
    return request.is_multipart_completion


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_part(request: Request) -> bool:
    return request.is_part


async def read_object(store: ObjectStore, ref: ObjectRef) -> bytes:
    return b"".join([block async for block in store.read(ref, 0, 1 << 40)])


async def put_two_parts(store: ObjectStore, ref: ObjectRef) -> tuple[str, list[PartTag]]:
    multipart_id = await store.open_multipart(ref, PLAIN)
    return multipart_id, [
        await store.put_part(ref, multipart_id, 1, BytesBody(b"1" * MIN_PART_BYTES)),
        await store.put_part(ref, multipart_id, 2, BytesBody(b"2" * 10)),
    ]


@pytest.mark.parametrize("name", FAULTS)
async def test_transient_fault_is_retried(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, name: str
) -> None:
    proxy.inject(FAULTS[name], times=2)
    info = await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    assert (info.size, info.crc32c) == (len(CONTENT), crc32c(CONTENT))
    proxy.inject(FAULTS[name])
    assert await read_object(through_proxy, ref) == CONTENT
    proxy.inject(FAULTS[name])
    assert await through_proxy.head(ref) == info


@pytest.mark.parametrize("name", FAULTS)
async def test_permanent_fault_raises_store_unavailable(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, metrics: S3Metrics, name: str
) -> None:
    def attempts() -> float:
        labels = {"operation": "head_object"}
        return metrics.registry.get_sample_value("sluice_s3_seconds_count", labels) or 0.0

    before = attempts()
    proxy.inject(FAULTS[name], times=1000)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await through_proxy.head(ref)
    assert attempts() - before == 4


async def test_small_bodies_skip_expect_while_accepted(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    expect_sent: list[bool] = []

    def record(request: Request) -> bool:
        if request.method == "PUT":
            expect_sent.append(request.expects_continue)
        return False

    proxy.inject(resets, when=record)
    await through_proxy.put(ref, BytesBody(b"the first"), PLAIN)
    for body, expected in (
        (BytesBody(CONTENT), [False]),
        (BytesBody(bytes(4 * MIB + 1)), [True]),
    ):
        expect_sent.clear()
        await through_proxy.put(ref, body, PLAIN)
        assert expect_sent == expected
    # Two, because the HTTP client itself retries an attempt when a connection breaks.
    proxy.inject(resets, times=2, when=is_put)
    expect_sent.clear()
    await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    assert expect_sent == [False, False, True]


async def test_rejected_body_without_expect_keeps_store_reason(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    proxy.inject(answers(403, error_body("AccessDenied")), times=2, when=is_put)
    with pytest.raises(PermissionDenied, match="STORE_DENIED"):
        await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)


async def test_retry_respects_retry_after(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    proxy.inject(slow_down("retry-after: 1"))
    began = asyncio.get_running_loop().time()
    assert await through_proxy.head(ref) is None
    assert asyncio.get_running_loop().time() - began >= 1.0


async def test_retries_end_at_deadline(
    open_store: Any, proxy: S3Proxy, bucket: str, ref: ObjectRef
) -> None:
    patient = RetryOptions(attempts=1000, total_seconds=1.5, wait_initial_seconds=0.01)
    never = BreakerOptions(window=1000, min_calls=1000)
    store = await open_store(endpoint_url=proxy.url, retry=patient, breaker=never)
    proxy.inject(slow_down(), times=1000)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await store.head(ref)
    assert proxy.requests["HEAD"] > 1


# ------------------------------------------------------------------ completing


@pytest.mark.rule(18)
async def test_error_in_200_is_a_failure(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await put_two_parts(through_proxy, ref)
    in_a_200 = answers(200, error_body("InternalError"))
    proxy.inject(in_a_200, times=1000, when=is_completion)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)
    assert await through_proxy.head(ref) is None
    proxy.heal()
    assert (await through_proxy.complete_multipart(ref, multipart_id, tags)).size == 5 * MIB + 10


@pytest.mark.rule(18)
@pytest.mark.parametrize(
    "body", [b"", b"   \n", error_body("InternalError"), error_body("SlowDown")[:60]]
)
async def test_200_without_confirmation_is_retried(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, body: bytes
) -> None:
    multipart_id, tags = await put_two_parts(through_proxy, ref)
    proxy.inject(answers(200, body), when=is_completion)
    info = await through_proxy.complete_multipart(ref, multipart_id, tags)
    assert info.size == MIN_PART_BYTES + 10
    assert proxy.requests["POST"] == 3  # opened, completed without confirmation, completed


async def test_error_in_200_keeps_its_code(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await put_two_parts(through_proxy, ref)
    proxy.inject(answers(200, error_body("NoSuchUpload")), when=is_completion)
    with pytest.raises(NotFound, match="MULTIPART_NOT_FOUND"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)


@pytest.mark.rule(18)
async def test_completion_with_lost_response_is_found_done(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    """Rule 18. SeaweedFS and AWS confirm the retry; other stores respond "not found"."""
    multipart_id, tags = await put_two_parts(through_proxy, ref)
    proxy.inject(loses_the_answer, when=is_completion)
    try:
        info = await through_proxy.complete_multipart(ref, multipart_id, tags)
    except NotFound:
        info = cast(Any, await through_proxy.head(ref))
    assert info == await through_proxy.head(ref)
    assert info.crc32c == crc32c(b"1" * MIN_PART_BYTES + b"2" * 10)


@pytest.mark.rule(18)
async def test_object_differing_from_parts_is_rejected(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await put_two_parts(through_proxy, ref)
    made = (
        b"<CompleteMultipartUploadResult><ETag>x</ETag>"
        b"<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></CompleteMultipartUploadResult>"
    )
    proxy.inject(answers(200, made), when=is_completion)
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)


async def test_object_without_checksum_is_verified_by_head(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await put_two_parts(through_proxy, ref)
    await through_proxy.put(ref, BytesBody(b"of another upload"), PLAIN)
    made = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
    proxy.inject(answers(200, made), when=is_completion)
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)


# ------------------------------------------------------------------ bodies


async def test_store_rejects_part_with_flipped_bit(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    proxy.inject(flips_a_bit(MIB), when=is_part)
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await through_proxy.put_part(ref, multipart_id, 1, BytesBody(CONTENT))
    assert list(await through_proxy.list_parts(ref, multipart_id)) == []


@pytest.mark.rule(16)
async def test_part_with_lost_response_is_stored_once(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    proxy.inject(loses_the_answer, when=is_part)
    tag = await through_proxy.put_part(ref, multipart_id, 1, BytesBody(CONTENT))
    (listed,) = await through_proxy.list_parts(ref, multipart_id)
    assert (listed.number, listed.etag, listed.size) == (1, tag.etag, len(CONTENT))


async def test_stalled_part_is_cancelled_and_retried(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    proxy.inject(takes_no_more(MIB), when=is_part)
    data = b"x" * 32 * MIB  # exceeds the socket buffers
    tag = await through_proxy.put_part(ref, multipart_id, 1, BytesBody(data))
    assert tag.size == len(data)
    assert proxy.requests["PUT"] == 2


class SlowSource(BytesBody):
    """Source that delays every block."""

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in super().blocks():
            await asyncio.sleep(0.8)
            yield block


async def test_slow_source_is_no_stall(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    """The total time exceeds the stall timeout."""
    info = await through_proxy.put(ref, SlowSource(CONTENT), PLAIN)
    assert info.crc32c == crc32c(CONTENT)
    assert proxy.requests["PUT"] == 1


async def test_truncated_read_raises_store_unavailable(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    proxy.inject(breaks_after(2 * MIB))
    blocks = through_proxy.read(ref, 0, len(CONTENT))
    assert await anext(blocks) == CONTENT[:MIB]
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await anext(blocks)


@pytest.mark.parametrize("fault", [hangs, takes_no_more(MIB)], ids=["hang", "stall"])
async def test_cancelled_upload_leaves_no_connection(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, fault: Fault
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    await until(lambda: proxy.connections_from_here() == 0)
    proxy.inject(fault, when=is_part)
    putting = asyncio.create_task(
        through_proxy.put_part(ref, multipart_id, 1, BytesBody(b"x" * 32 * MIB))
    )
    await until(lambda: proxy.connections_from_here() == 1)
    await asyncio.sleep(0.1)  # reach the body
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await until(lambda: proxy.connections_from_here() == 0)


async def test_probe_leaves_bucket_empty(store: ObjectStore, bucket: str) -> None:
    assert await keys_of(bucket) == []


# ------------------------------------------------------------------ the breaker


async def test_breaker_opens_for_failed_store_and_recovers(
    open_store: Any, proxy: S3Proxy, bucket: str, ref: ObjectRef, metrics: S3Metrics
) -> None:
    store = await open_store(
        endpoint_url=proxy.url,
        retry=RetryOptions(attempts=1),
        breaker=BreakerOptions(open_seconds=1.5),
    )
    await store.check(bucket)
    proxy.inject(slow_down(), times=1000)
    for _ in range(10):
        with pytest.raises(Unavailable, match=r"STORE_UNAVAILABLE|STORE_CIRCUIT_OPEN"):
            await store.head(ref)
    head_requests = proxy.requests["HEAD"]
    with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN") as refused:
        await store.put(ref, BytesBody(b"x"), PLAIN)
    assert 0 < cast(float, refused.value.retry_after_seconds) <= 1.5
    assert proxy.requests["HEAD"] == head_requests < 11
    state = metrics.registry.get_sample_value
    assert state("sluice_store_breaker_state") == 2

    await asyncio.sleep(1.6)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await store.head(ref)  # the probe: still down
    assert state("sluice_store_breaker_state") == 2
    proxy.heal()
    await asyncio.sleep(1.6)
    assert await store.head(ref) is None
    assert state("sluice_store_breaker_state") == 0


async def test_rejected_requests_keep_breaker_closed(
    store: ObjectStore, metrics: S3Metrics
) -> None:
    missing = ObjectRef("nowhere", "a/b")
    for _ in range(20):
        with pytest.raises(NotFound, match="BUCKET_NOT_FOUND"):
            await store.delete(missing)
    assert metrics.registry.get_sample_value("sluice_store_breaker_state") == 0
