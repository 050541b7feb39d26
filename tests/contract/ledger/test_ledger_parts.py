"""Part claims, fences, records and damaged chunks (rules 8, 13, 15 to 17)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_core.errors import Aborted, AlreadyExists, FailedPrecondition, Internal
from sluice_core.ports import Fence, StoredPartRecord, WorkItem, WorkKind
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import PartPlan, UploadStatus
from support.ledgers import LEASE_SECONDS, PART_BYTES, Driver

CHUNK = 8


async def upload(driver: Driver, content: bytes, chunk_size: int | None = None) -> str:
    upload_id = await driver.create(chunk_size=chunk_size)
    await driver.send_all(upload_id, content, CHUNK)
    return upload_id


async def test_a_claim_says_what_to_store(driver: Driver) -> None:
    upload_id = await upload(driver, bytes(range(40)))
    claim = await driver.claim(upload_id, 2)
    assert claim.plan == PartPlan(2, 2, 3)
    assert claim.size == PART_BYTES
    assert claim.fence.nonce == driver.ledger.nonce
    assert claim.claimed_at == driver.clock.now
    chunks = await driver.chunks_of(claim, page=1)
    assert [chunk.number for chunk in chunks] == [2, 3]
    assert chunks[0].crc32c == crc32c(bytes(range(16, 24)))


async def test_only_ready_parts_can_be_claimed(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 40)
    assert await driver.ledger.claim_part(upload_id, 3, "w", LEASE_SECONDS) is None
    await driver.store(upload_id, 1)
    assert await driver.ledger.claim_part(upload_id, 1, "w", LEASE_SECONDS) is None
    await driver.ledger.abort(upload_id)
    assert await driver.ledger.claim_part(upload_id, 2, "w", LEASE_SECONDS) is None


@pytest.mark.rule(15)
async def test_rule_15_a_part_has_one_holder_until_its_lease_ends(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    first = await driver.claim(upload_id, 1, "one")
    assert await driver.ledger.claim_part(upload_id, 1, "two", LEASE_SECONDS) is None
    driver.clock.advance(LEASE_SECONDS - 1)
    await driver.ledger.extend_claim(first, LEASE_SECONDS)
    driver.clock.advance(LEASE_SECONDS - 1)
    assert await driver.ledger.claim_part(upload_id, 1, "two", LEASE_SECONDS) is None
    driver.clock.advance(1)
    second = await driver.claim(upload_id, 1, "two")
    assert second.fence.counter > first.fence.counter


async def test_repeated_claim_returns_the_same(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    first = await driver.claim(upload_id, 1)
    assert await driver.claim(upload_id, 1) == first


@pytest.mark.rule(15)
async def test_rule_15_claim_that_was_taken_over_is_fenced(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    stale = await driver.claim(upload_id, 1, "one")
    record = await driver.record_of(stale)
    driver.clock.advance(LEASE_SECONDS)
    claim = await driver.claim(upload_id, 1, "two")
    forged = replace(claim, fence=Fence("othernonce", claim.fence.counter))
    before = await driver.ledger.get(upload_id)
    for lost in (stale, forged):
        for call in (
            driver.ledger.record_part(lost, record),
            driver.ledger.extend_claim(lost, LEASE_SECONDS),
            driver.ledger.set_multipart(lost, "m"),
            driver.ledger.reject_chunk(lost, 0),
        ):
            with pytest.raises(Aborted) as fenced:
                await call
            assert fenced.value.reason == "FENCED"
        await driver.ledger.release_claim(lost)
    assert await driver.ledger.get(upload_id) == before
    await driver.ledger.record_part(claim, record)


@pytest.mark.rule(15)
async def test_rule_15_expired_lease_is_valid_until_taken_over(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    claim = await driver.claim(upload_id, 1)
    driver.clock.advance(LEASE_SECONDS * 10)
    await driver.ledger.record_part(claim, await driver.record_of(claim))
    assert (await driver.ledger.get(upload_id)).stored_bytes == 16


@pytest.mark.rule(15)
async def test_rule_15_an_ended_upload_fences_its_workers(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    claim = await driver.claim(upload_id, 1)
    record = await driver.record_of(claim)
    await driver.ledger.abort(upload_id)
    with pytest.raises(Aborted):
        await driver.ledger.record_part(claim, record)
    await driver.ledger.release_claim(claim)


async def test_a_released_claim_can_be_taken_at_once(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    claim = await driver.claim(upload_id, 1, "one")
    assert await driver.ready() == []
    await driver.ledger.release_claim(claim)
    assert await driver.ready() == [(upload_id, 1)]
    await driver.claim(upload_id, 1, "two")


@pytest.mark.rule(13)
async def test_rule_13_the_first_multipart_wins(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 32)
    one, two = await driver.claim(upload_id, 1), await driver.claim(upload_id, 2)
    assert await driver.ledger.set_multipart(one, "first") == "first"
    assert await driver.ledger.set_multipart(two, "second") == "first"
    assert (await driver.ledger.get(upload_id)).multipart_id == "first"


@pytest.mark.rule(17)
async def test_rule_17_stored_part_frees_its_bytes(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 40)
    assert (await driver.ledger.backlog()).queued_bytes == 40
    await driver.store(upload_id, 2)
    snapshot = await driver.ledger.get(upload_id)
    assert (await driver.ledger.backlog()).queued_bytes == 24
    assert (snapshot.stored_bytes, snapshot.stored_chunks) == (16, 2)
    assert (snapshot.stored_watermark, snapshot.stored_parts) == (0, 0)
    snapshot = (await driver.store(upload_id, 1)).snapshot
    assert (snapshot.stored_watermark, snapshot.stored_parts) == (4, 2)


@pytest.mark.rule(16)
async def test_rule_16_repeated_record_returns_the_same(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 32)
    claim = await driver.claim(upload_id, 1)
    record = await driver.record_of(claim)
    first = await driver.ledger.record_part(claim, record)
    assert await driver.ledger.record_part(claim, record) == first
    with pytest.raises(Aborted):
        await driver.ledger.record_part(claim, replace(record, etag="late"))
    stored = await driver.ledger.stored_parts(upload_id, 0, 10)
    assert stored == [record]


async def test_stored_parts_come_in_order_and_in_pages(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 64)
    for part in (3, 1, 4):
        await driver.store(upload_id, part)
    stored = driver.ledger.stored_parts
    assert [part.number for part in await stored(upload_id, 0, 2)] == [1, 3]
    assert [part.number for part in await stored(upload_id, 3, 2)] == [4]


async def test_a_part_of_another_size_is_not_recorded(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    claim = await driver.claim(upload_id, 1)
    with pytest.raises(Internal) as defect:
        await driver.ledger.record_part(claim, StoredPartRecord(1, "e", 15, 1))
    assert defect.value.reason == "PART_SIZE_MISMATCH"


async def test_the_sha256_of_a_single_put_is_kept(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc", is_last=True)
    claim = await driver.claim(upload_id, 1)
    record = replace(await driver.record_of(claim), sha256=b"\x01" * 32)
    assert (await driver.ledger.record_part(claim, record)).snapshot.sha256 == b"\x01" * 32
    assert (await driver.ledger.stored_parts(upload_id, 0, 1))[0].sha256 == b"\x01" * 32


@pytest.mark.rule(8)
@pytest.mark.parametrize("chunk_size", [None, CHUNK])
async def test_rule_8_a_rejected_chunk_is_missing_again(
    driver: Driver, chunk_size: int | None
) -> None:
    content = bytes(range(32))
    upload_id = await upload(driver, content, chunk_size)
    await driver.complete(upload_id, 4)
    claim = await driver.claim(upload_id, 1)
    record = await driver.record_of(claim)
    snapshot = await driver.ledger.reject_chunk(claim, 1)
    assert snapshot.status is UploadStatus.UPLOADING
    assert (snapshot.total_chunks, snapshot.needed_number) == (4, 1)
    assert (snapshot.received_bytes, snapshot.received_chunks) == (24, 3)
    assert await driver.missing(upload_id) == [(1, 1)]
    assert (await driver.ledger.backlog()).queued_bytes == 24
    assert await driver.ledger.reject_chunk(claim, 1) == snapshot
    with pytest.raises(FailedPrecondition):
        await driver.ledger.record_part(claim, record)

    accepted = await driver.send(upload_id, 1, content[8:16])
    assert accepted.ready_parts == (1,)
    with pytest.raises(Aborted):  # its bytes were the damaged ones
        await driver.ledger.record_part(claim, record)
    done = await driver.complete(upload_id)
    assert done.snapshot.crc32c == crc32c(content)
    assert (await driver.finish(upload_id)).crc32c == crc32c(content)


@pytest.mark.rule(2)
@pytest.mark.parametrize("chunk_size", [None, CHUNK])
async def test_rule_2_a_rejected_chunk_does_not_free_its_neighbours(
    driver: Driver, chunk_size: int | None
) -> None:
    """Their part was queued once, so `force` is too late."""
    upload_id = await upload(driver, bytes(range(16)), chunk_size)
    await driver.ledger.reject_chunk(await driver.claim(upload_id, 1), 0)
    offer = driver.offer(upload_id, 1, CHUNK, force=True)
    with pytest.raises(FailedPrecondition) as refused:
        await driver.ledger.accept_chunk(offer, crc32c(b"y" * CHUNK))
    assert refused.value.reason == "CHUNK_QUEUED"


@pytest.mark.rule(8)
async def test_rule_8_a_part_may_have_several_damaged_chunks(driver: Driver) -> None:
    content = bytes(range(16))
    upload_id = await upload(driver, content)
    claim = await driver.claim(upload_id, 1)
    await driver.ledger.reject_chunk(claim, 1)
    snapshot = await driver.ledger.reject_chunk(claim, 0)
    assert (snapshot.needed_number, snapshot.received_chunks) == (0, 0)
    assert (await driver.send(upload_id, 0, content[:8])).snapshot.needed_number == 1
    assert (await driver.send(upload_id, 1, content[8:])).ready_parts == (1,)


@pytest.mark.rule(8)
async def test_rule_8_rejected_chunk_needs_the_same_content(driver: Driver) -> None:
    upload_id = await upload(driver, bytes(range(16)))
    await driver.ledger.reject_chunk(await driver.claim(upload_id, 1), 0)
    offer = driver.offer(upload_id, 0, 8)
    with pytest.raises(AlreadyExists) as refused:
        await driver.ledger.accept_chunk(offer, crc32c(b"y" * 8))
    assert refused.value.reason == "CHUNK_CONFLICT"


async def test_the_checksum_waits_for_a_rejected_chunk(driver: Driver) -> None:
    """A replaced chunk resets the object's CRC32C while an earlier chunk is missing."""
    content = bytes(range(32))
    upload_id = await upload(driver, content[:24] + b"y" * 4)
    await driver.ledger.reject_chunk(await driver.claim(upload_id, 1), 0)
    await driver.send(upload_id, 3, content[24:], force=True)
    await driver.send(upload_id, 0, content[:8])
    assert (await driver.complete(upload_id, 4)).snapshot.crc32c == crc32c(content)


async def test_ready_work_is_unleased_and_oldest_first(driver: Driver) -> None:
    older = await upload(driver, b"x" * 32)
    driver.clock.advance(1)
    newer = await upload(driver, b"x" * 16)
    assert await driver.ready() == [(older, 1), (older, 2), (newer, 1)]
    assert len(await driver.ledger.ready_work(2)) == 2
    await driver.claim(older, 1)
    assert await driver.ready() == [(older, 2), (newer, 1)]
    driver.clock.advance(LEASE_SECONDS)
    assert await driver.ready() == [(older, 1), (older, 2), (newer, 1)]


async def test_ready_work_names_completions(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a", is_last=True)
    await driver.store_all()
    assert await driver.ledger.ready_work(10) == []
    await driver.complete(upload_id)
    work = [WorkItem(WorkKind.COMPLETION, upload_id, "acme")]
    assert await driver.ledger.ready_work(10) == work
    claim = await driver.claim_completion(upload_id)
    assert await driver.ledger.ready_work(10) == []
    await driver.ledger.release_claim(claim)
    assert await driver.ledger.ready_work(10) == work


async def test_work_of_an_ended_upload_is_not_named(driver: Driver) -> None:
    upload_id = await upload(driver, b"x" * 16)
    await driver.ledger.abort(upload_id)
    assert await driver.ledger.ready_work(10) == []
