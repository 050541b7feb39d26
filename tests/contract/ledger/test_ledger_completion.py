"""Completion, abort and failure: rules 8, 12, 18, 21 and phase 1."""

from __future__ import annotations

import pytest

from sluice_core.errors import Aborted, FailedPrecondition
from sluice_core.ports import Fence
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadStatus
from support.ledgers import LEASE_SECONDS, PART_BYTES, Driver, OpenDriver

SHA256 = b"\x11" * 32


async def refused(call: object) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as error:
        await call  # type: ignore[misc]
    return error.value


async def test_completion_names_what_is_missing(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a")
    await driver.send(upload_id, 2, b"c")
    before = await driver.ledger.get(upload_id)
    error = await refused(driver.complete(upload_id, 4))
    assert error.reason == "CHUNKS_MISSING"
    assert error.metadata == {"received_chunks": "2", "needed_number": "1"}
    assert await driver.ledger.get(upload_id) == before


async def test_completion_needs_a_total(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a")
    assert (await refused(driver.complete(upload_id))).reason == "TOTAL_UNKNOWN"


async def test_completion_total_must_match_received_chunks(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 1, b"b", is_last=True)
    assert (await refused(driver.complete(upload_id, 3))).reason == "TOTAL_MISMATCH"
    other = await driver.create()
    await driver.send(other, 1, b"b")
    assert (await refused(driver.complete(other, 1))).reason == "TOTAL_MISMATCH"


@pytest.mark.rule(21)
async def test_rule_21_fewer_bytes_than_declared_do_not_complete(driver: Driver) -> None:
    upload_id = await driver.create(expected_size=3)
    await driver.send(upload_id, 0, b"ab")
    assert (await refused(driver.complete(upload_id, 1))).reason == "SIZE_MISMATCH"
    await driver.send(upload_id, 1, b"c")
    assert (await driver.complete(upload_id, 2)).snapshot.status is UploadStatus.COMPLETING


async def test_repeated_completion_returns_the_same(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a")
    first = await driver.ledger.request_completion(upload_id, 1, SHA256, 5)
    again = await driver.ledger.request_completion(upload_id, 1, SHA256, 5)
    assert again.snapshot == first.snapshot
    assert (await driver.complete(upload_id)).snapshot == first.snapshot


async def test_claims_may_come_with_initiation_or_completion(driver: Driver) -> None:
    upload_id = await driver.create(crc32c=5)
    await driver.send(upload_id, 0, b"a")
    call = driver.ledger.request_completion(upload_id, 1, None, 6)
    assert (await refused(call)).reason == "CLAIM_MISMATCH"
    done = await driver.ledger.request_completion(upload_id, 1, SHA256, 5)
    assert (done.snapshot.new.sha256, done.snapshot.new.crc32c) == (SHA256, 5)
    assert (await driver.ledger.get(upload_id)).new.sha256 == SHA256
    call = driver.ledger.request_completion(upload_id, 1, b"\x22" * 32, None)
    assert (await refused(call)).reason == "CLAIM_MISMATCH"


async def test_an_ended_upload_does_not_complete(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.ledger.abort(upload_id)
    assert (await refused(driver.complete(upload_id, 0))).reason == "UPLOAD_ENDED"


@pytest.mark.parametrize("chunk_size", [None, 8])
@pytest.mark.parametrize("chunk", [None, b""])
async def test_an_empty_object_is_one_put_of_no_bytes(
    driver: Driver, chunk_size: int | None, chunk: bytes | None
) -> None:
    upload_id = await driver.create(chunk_size=chunk_size, expected_size=0)
    if chunk is not None:
        await driver.send(upload_id, 0, chunk, is_last=True)
    done = await driver.complete(upload_id, 0 if chunk is None else 1)
    assert done.snapshot.crc32c == 0
    claim = await driver.claim(upload_id, 1)
    assert (claim.size, claim.single_put) == (0, True)
    await driver.ledger.release_claim(claim)
    assert (await driver.finish(upload_id)).status is UploadStatus.COMPLETED


@pytest.mark.rule(12)
@pytest.mark.parametrize("chunk_size", [None, 8])
async def test_rule_12_an_object_below_one_part_is_a_single_put(
    driver: Driver, chunk_size: int | None
) -> None:
    upload_id = await driver.create(chunk_size=chunk_size)
    await driver.send(upload_id, 0, b"x" * 8)
    accepted = await driver.send(upload_id, 1, b"y" * 7, is_last=True)
    assert accepted.ready_parts == (1,)  # before CompleteUpload
    claim = await driver.claim(upload_id, 1)
    assert claim.single_put
    assert claim.size == 15


@pytest.mark.rule(12)
@pytest.mark.parametrize("chunk_size", [None, 8])
async def test_rule_12_full_first_part_is_ready_without_a_total(
    driver: Driver, chunk_size: int | None
) -> None:
    upload_id = await driver.create(chunk_size=chunk_size)
    await driver.send(upload_id, 0, b"x" * 8)
    assert (await driver.send(upload_id, 1, b"y" * 8)).ready_parts == (1,)
    assert not (await driver.claim(upload_id, 1)).single_put


@pytest.mark.parametrize("chunk_size", [None, 8])
async def test_tail_is_ready_once_received(driver: Driver, chunk_size: int | None) -> None:
    upload_id = await driver.create(chunk_size=chunk_size)
    await driver.send(upload_id, 2, b"z", is_last=True)
    await driver.send(upload_id, 0, b"x" * 8)
    await driver.send(upload_id, 1, b"y" * 8)
    assert [part for _, part in await driver.ready()] == [1, 2]


async def test_the_tail_waits_for_the_total(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    assert await driver.ready() == []
    done = await driver.complete(upload_id, 1)
    assert done.ready_parts == (1,)
    assert not done.completion_ready


@pytest.mark.rule(18)
async def test_rule_18_a_completion_waits_for_every_part(driver: Driver) -> None:
    upload_id = await driver.create()
    total = await driver.send_all(upload_id, b"x" * 40, 8)
    await driver.complete(upload_id, total)
    await driver.store(upload_id, 2)
    await driver.store(upload_id, 1)
    assert await driver.ledger.claim_completion(upload_id, "w", LEASE_SECONDS) is None
    last = await driver.store(upload_id, 3)
    assert last.completion_ready
    claim = await driver.claim_completion(upload_id)
    assert (claim.part_count, claim.single_put) == (3, False)


@pytest.mark.rule(18)
async def test_rule_18_one_holder_completes(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a", is_last=True)
    await driver.store(upload_id, 1)
    assert (await driver.complete(upload_id)).completion_ready
    first = await driver.claim_completion(upload_id, "one")
    assert await driver.ledger.claim_completion(upload_id, "two", LEASE_SECONDS) is None
    driver.clock.advance(LEASE_SECONDS)
    second = await driver.claim_completion(upload_id, "two")
    with pytest.raises(Aborted) as fenced:
        await driver.ledger.finish(first, 1, None)
    assert fenced.value.reason == "FENCED"
    ended = await driver.ledger.finish(second, crc32c(b"a"), SHA256)
    assert ended.status is UploadStatus.COMPLETED
    assert (ended.crc32c, ended.sha256, ended.ended_at) == (
        crc32c(b"a"),
        SHA256,
        driver.clock(),
    )
    assert await driver.ledger.finish(second, crc32c(b"a"), SHA256) == ended
    with pytest.raises(Aborted):
        await driver.ledger.finish(first, 1, None)


@pytest.mark.rule(18)
async def test_rule_18_completing_is_not_aborted(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a")
    await driver.complete(upload_id, 1)
    assert (await refused(driver.ledger.abort(upload_id))).reason == "UPLOAD_COMPLETING"


async def test_abort_is_idempotent_and_rejected_when_completed(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    aborted = await driver.ledger.abort(upload_id)
    assert aborted.status is UploadStatus.ABORTED
    assert await driver.ledger.abort(upload_id) == aborted
    assert (await driver.ledger.backlog()).queued_bytes == 0
    completed = await driver.completed()
    assert (await refused(driver.ledger.abort(completed))).reason == "UPLOAD_ENDED"


async def test_the_first_failure_stays(driver: Driver) -> None:
    upload_id = await driver.create()
    failed = await driver.ledger.fail(upload_id, "BUCKET_NOT_FOUND", "no bucket")
    assert (failed.status, failed.failure_reason) == (UploadStatus.FAILED, "BUCKET_NOT_FOUND")
    assert await driver.ledger.fail(upload_id, "OTHER", "x") == failed
    assert await driver.ledger.abort(upload_id) == failed


@pytest.mark.rule(15)
async def test_rule_15_failing_an_upload_needs_a_current_fence(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a", is_last=True)
    stale = await driver.claim(upload_id, 1, "one")
    driver.clock.advance(LEASE_SECONDS)
    claim = await driver.claim(upload_id, 1, "two")
    for fence in (stale.fence, Fence("other", claim.fence.counter)):
        with pytest.raises(Aborted):
            await driver.ledger.fail(upload_id, "R", "d", fence)
    failed = await driver.ledger.fail(upload_id, "R", "d", claim.fence)
    assert failed.status is UploadStatus.FAILED


@pytest.mark.rule(16)
async def test_rule_16_a_lost_part_is_sent_again(driver: Driver) -> None:
    upload_id = await driver.create()
    content = bytes(range(40))
    await driver.complete(upload_id, await driver.send_all(upload_id, content, 8))
    await driver.store_all()
    claim = await driver.claim_completion(upload_id)
    for part in (2, 1):
        await driver.ledger.reopen_part(claim, part)
        await driver.ledger.reopen_part(claim, part)
    snapshot = await driver.ledger.get(upload_id)
    assert snapshot.status is UploadStatus.UPLOADING
    assert (snapshot.received_bytes, snapshot.stored_bytes, snapshot.stored_watermark) == (8, 8, 0)
    assert await driver.missing(upload_id) == [(0, 3)]
    for number in (3, 1, 0, 2):
        await driver.send(upload_id, number, content[number * 8 : number * 8 + 8])
    await driver.complete(upload_id)
    with pytest.raises(Aborted):
        await driver.ledger.finish(claim, 1, None)
    with pytest.raises(Aborted):
        await driver.ledger.reopen_part(claim, 3)
    assert (await driver.finish(upload_id)).crc32c == crc32c(content)


@pytest.mark.rule(16)
async def test_rule_16_a_lost_empty_object_is_stored_again(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.complete(upload_id, 0)
    await driver.store_all()
    claim = await driver.claim_completion(upload_id)
    await driver.ledger.reopen_part(claim, 1)
    assert await driver.status(upload_id) is UploadStatus.COMPLETING
    with pytest.raises(Aborted):
        await driver.ledger.finish(claim, 0, None)
    driver.clock.advance(LEASE_SECONDS)
    assert (await driver.finish(upload_id)).status is UploadStatus.COMPLETED


class TestPhase1:
    """Phase 1 (`discard_on_accept`): bytes are discarded, and completion ends at once."""

    @pytest.mark.parametrize("chunk_size", [None, 8])
    async def test_an_upload_ends_with_its_checksum(
        self, open_driver: OpenDriver, chunk_size: int | None
    ) -> None:
        driver = await open_driver(discard_on_accept=True)
        content = bytes(range(100))
        upload_id = await driver.create(chunk_size=chunk_size, crc32c=crc32c(content))
        total = await driver.send_all(upload_id, content, 8)
        assert (await driver.ledger.backlog()).queued_bytes == 0
        snapshot = await driver.ledger.get(upload_id)
        assert snapshot.stored_bytes >= 100 - PART_BYTES
        done = await driver.complete(upload_id, total)
        assert done.snapshot.status is UploadStatus.COMPLETED
        assert done.snapshot.crc32c == crc32c(content)
        assert (done.ready_parts, done.completion_ready) == ((), False)
        assert (done.snapshot.stored_bytes, done.snapshot.stored_watermark) == (100, total)
        assert await driver.ready() == []

    async def test_a_wrong_claim_fails_the_upload(self, open_driver: OpenDriver) -> None:
        driver = await open_driver(discard_on_accept=True)
        upload_id = await driver.create()
        await driver.send(upload_id, 0, b"abc")
        done = await driver.ledger.request_completion(upload_id, 1, None, crc32c(b"abd"))
        assert done.snapshot.status is UploadStatus.FAILED
        assert done.snapshot.failure_reason == "CHECKSUM_MISMATCH"

    @pytest.mark.no_cover
    async def test_a_long_run_ends_as_well(self, open_driver: OpenDriver) -> None:
        driver = await open_driver(discard_on_accept=True)
        upload_id = await driver.create(part_bytes=100_000)
        for number in range(1_250, -1, -1):
            await driver.send(upload_id, number, b"x")
        done = await driver.complete(upload_id, 1_251)
        assert done.snapshot.status is UploadStatus.COMPLETED
        assert done.snapshot.crc32c == crc32c(b"x" * 1_251)
