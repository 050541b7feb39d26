"""What networks and stores do wrong, and what becomes of it: retried, reconciled or told."""

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
    error_body,
    flip_bit,
    lose_answer,
    never_answer,
    reset_connection,
    slow_down,
    stall_body,
    truncate_answer,
)
from support.s3_server import keys_of
from support.waiting import until

PLAIN = ObjectAttributes()
SECONDS = 20.0
"""By then anything has happened, on the busiest machine too."""

CONTENT = bytes(range(256)) * (3 * MIB // 256)
FAULTS = {
    "500": answers(500, error_body("InternalError")),
    "503 SlowDown": slow_down(),
    "503 without a body": answers(503),
    "429": answers(429),
    "a hang": never_answer,
    "a reset": reset_connection,
    "a stepped clock": answers(403, error_body("RequestTimeTooSkewed")),
    "an expired token": answers(400, error_body("ExpiredToken")),
}


def is_completion(request: Request) -> bool:
    return request.is_multipart_completion


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_part(request: Request) -> bool:
    return request.is_part


async def content(store: ObjectStore, ref: ObjectRef) -> bytes:
    return b"".join([block async for block in store.read(ref, 0, 1 << 40)])


async def two_parts(store: ObjectStore, ref: ObjectRef) -> tuple[str, list[PartTag]]:
    multipart_id = await store.open_multipart(ref, PLAIN)
    return multipart_id, [
        await store.put_part(ref, multipart_id, 1, BytesBody(b"1" * MIN_PART_BYTES)),
        await store.put_part(ref, multipart_id, 2, BytesBody(b"2" * 10)),
    ]


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_passes_is_not_noticed(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, name: str
) -> None:
    proxy.inject(FAULTS[name], times=2)
    info = await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    assert (info.size, info.crc32c) == (len(CONTENT), crc32c(CONTENT))
    proxy.inject(FAULTS[name])
    assert await content(through_proxy, ref) == CONTENT
    proxy.inject(FAULTS[name])
    assert await through_proxy.head(ref) == info


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_stays_says_that_the_store_is_unavailable(
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


async def test_small_bodies_are_sent_unasked_after_one_was_taken_and_until_one_is_not(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    asked: list[bool] = []

    def is_noted(request: Request) -> bool:
        if request.method == "PUT":
            asked.append(request.asks_first)
        return False

    proxy.inject(reset_connection, when=is_noted)
    await through_proxy.put(ref, BytesBody(b"the first"), PLAIN)
    for body, expected in (
        (BytesBody(CONTENT), [False]),
        (BytesBody(bytes(4 * MIB + 1)), [True]),
    ):
        asked.clear()
        await through_proxy.put(ref, body, PLAIN)
        assert asked == expected
    # Two, for the HTTP client repeats an attempt by itself where a connection breaks.
    proxy.inject(reset_connection, times=2, when=is_put)
    asked.clear()
    await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    assert asked == [False, False, True]


async def test_a_body_that_was_sent_unasked_is_refused_with_the_stores_reason(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    proxy.inject(answers(403, error_body("AccessDenied")), times=2, when=is_put)
    with pytest.raises(PermissionDenied, match="STORE_DENIED"):
        await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)


async def test_a_retry_waits_as_long_as_the_store_asks(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    proxy.inject(slow_down("retry-after: 1"))
    began = asyncio.get_running_loop().time()
    assert await through_proxy.head(ref) is None
    assert asyncio.get_running_loop().time() - began >= 1.0


async def test_retries_end_at_their_deadline(
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
async def test_an_error_in_a_200_is_a_failure(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await two_parts(through_proxy, ref)
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
async def test_a_200_that_confirms_nothing_is_repeated(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, body: bytes
) -> None:
    multipart_id, tags = await two_parts(through_proxy, ref)
    proxy.inject(answers(200, body), when=is_completion)
    info = await through_proxy.complete_multipart(ref, multipart_id, tags)
    assert info.size == MIN_PART_BYTES + 10
    assert proxy.requests["POST"] == 3  # opened, completed in vain, completed


async def test_an_error_in_a_200_is_the_error_that_it_names(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await two_parts(through_proxy, ref)
    proxy.inject(answers(200, error_body("NoSuchUpload")), when=is_completion)
    with pytest.raises(NotFound, match="MULTIPART_NOT_FOUND"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)


@pytest.mark.rule(18)
async def test_a_completion_whose_answer_was_lost_is_found_done(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    """Rule 18. The repeat is confirmed by SeaweedFS and AWS, and not found by others."""
    multipart_id, tags = await two_parts(through_proxy, ref)
    proxy.inject(lose_answer, when=is_completion)
    try:
        info = await through_proxy.complete_multipart(ref, multipart_id, tags)
    except NotFound:
        info = cast(Any, await through_proxy.head(ref))
    assert info == await through_proxy.head(ref)
    assert info.crc32c == crc32c(b"1" * MIN_PART_BYTES + b"2" * 10)


@pytest.mark.rule(18)
async def test_an_object_that_is_not_its_parts_is_refused(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await two_parts(through_proxy, ref)
    made = (
        b"<CompleteMultipartUploadResult><ETag>x</ETag>"
        b"<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></CompleteMultipartUploadResult>"
    )
    proxy.inject(answers(200, made), when=is_completion)
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)


async def test_an_object_without_a_checksum_is_looked_at(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id, tags = await two_parts(through_proxy, ref)
    await through_proxy.put(ref, BytesBody(b"of somebody else"), PLAIN)
    made = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
    proxy.inject(answers(200, made), when=is_completion)
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await through_proxy.complete_multipart(ref, multipart_id, tags)


# ------------------------------------------------------------------ bodies


async def test_a_bit_that_flips_on_the_way_is_seen_by_the_store(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    proxy.inject(flip_bit(MIB), when=is_part)
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await through_proxy.put_part(ref, multipart_id, 1, BytesBody(CONTENT))
    assert list(await through_proxy.list_parts(ref, multipart_id)) == []


@pytest.mark.rule(16)
async def test_a_part_whose_answer_was_lost_is_stored_once(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    proxy.inject(lose_answer, when=is_part)
    tag = await through_proxy.put_part(ref, multipart_id, 1, BytesBody(CONTENT))
    (listed,) = await through_proxy.list_parts(ref, multipart_id)
    assert (listed.number, listed.etag, listed.size) == (1, tag.etag, len(CONTENT))


async def test_a_store_that_takes_no_more_of_a_part_is_given_up_and_asked_again(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    proxy.inject(stall_body(MIB), when=is_part)
    data = b"x" * 32 * MIB  # more than the sockets between hold
    tag = await through_proxy.put_part(ref, multipart_id, 1, BytesBody(data))
    assert tag.size == len(data)
    assert proxy.requests["PUT"] == 2


class Slow(BytesBody):
    """A source that takes its time with every block."""

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in super().blocks():
            await asyncio.sleep(0.8)
            yield block


async def test_a_slow_source_is_no_fault_of_the_store(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    """In all it takes longer than the store may stand still."""
    info = await through_proxy.put(ref, Slow(CONTENT), PLAIN)
    assert info.crc32c == crc32c(CONTENT)
    assert proxy.requests["PUT"] == 1


async def test_an_object_that_breaks_off_is_not_taken_for_whole(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef
) -> None:
    await through_proxy.put(ref, BytesBody(CONTENT), PLAIN)
    proxy.inject(truncate_answer(2 * MIB))
    blocks = through_proxy.read(ref, 0, len(CONTENT))
    assert await anext(blocks) == CONTENT[:MIB]
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await anext(blocks)


@pytest.mark.parametrize("fault", [never_answer, stall_body(MIB)], ids=["hang", "stall"])
async def test_an_upload_that_is_cancelled_leaves_no_connection(
    through_proxy: ObjectStore, proxy: S3Proxy, ref: ObjectRef, fault: Fault
) -> None:
    multipart_id = await through_proxy.open_multipart(ref, PLAIN)
    await until(lambda: proxy.connections_from_here() == 0)
    proxy.inject(fault, when=is_part)
    putting = asyncio.create_task(
        through_proxy.put_part(ref, multipart_id, 1, BytesBody(b"x" * 32 * MIB))
    )
    await until(lambda: proxy.connections_from_here() == 1)
    await asyncio.sleep(0.1)  # into the body
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await until(lambda: proxy.connections_from_here() == 0)


async def test_nothing_is_left_in_the_bucket_by_the_probe(store: ObjectStore, bucket: str) -> None:
    assert await keys_of(bucket) == []


# ------------------------------------------------------------------ the breaker


async def test_a_store_that_is_down_is_left_alone_and_found_again(
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
    asked = proxy.requests["HEAD"]
    with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN") as refused:
        await store.put(ref, BytesBody(b"x"), PLAIN)
    assert 0 < cast(float, refused.value.retry_after_seconds) <= 1.5
    assert proxy.requests["HEAD"] == asked < 11
    state = metrics.registry.get_sample_value
    assert state("sluice_store_breaker_state") == 2

    await asyncio.sleep(1.6)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await store.head(ref)  # the one that tries: still down
    assert state("sluice_store_breaker_state") == 2
    proxy.heal()
    await asyncio.sleep(1.6)
    assert await store.head(ref) is None
    assert state("sluice_store_breaker_state") == 0


async def test_requests_that_are_wrong_do_not_open_the_breaker(
    store: ObjectStore, metrics: S3Metrics
) -> None:
    missing = ObjectRef("nowhere", "a/b")
    for _ in range(20):
        with pytest.raises(NotFound, match="BUCKET_NOT_FOUND"):
            await store.delete(missing)
    assert metrics.registry.get_sample_value("sluice_store_breaker_state") == 0
