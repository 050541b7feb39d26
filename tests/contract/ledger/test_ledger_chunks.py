"""Admission and acceptance of chunks: rules 1 to 4 and 21."""

from __future__ import annotations

import random

import pytest

from sluice_core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    SluiceError,
)
from sluice_core.ports import Verdict
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MAX_CHUNKS, UploadOwner, UploadStatus
from support.ledgers import PART_BYTES, Driver, ranges


async def assert_rejected(
    driver: Driver,
    kind: type[SluiceError],
    reason: str,
    upload_id: str,
    number: int,
    content: bytes,
    **flags: bool,
) -> SluiceError:
    """Check that admission and acceptance reject the chunk with one reason, without a change."""
    before = await driver.ledger.get(upload_id)
    offer = driver.offer(upload_id, number, len(content), **flags)
    with pytest.raises(kind) as at_accept:
        await driver.ledger.accept_chunk(offer, crc32c(content))
    with pytest.raises(kind) as at_admission:
        await driver.ledger.admit_chunk(offer)
    assert at_accept.value.reason == at_admission.value.reason == reason
    assert await driver.ledger.get(upload_id) == before
    return at_accept.value


async def test_a_new_upload_is_pending_and_holds_nothing(driver: Driver) -> None:
    new = driver.new()
    snapshot = await driver.ledger.create(new)
    assert snapshot.new == new
    assert snapshot.status is UploadStatus.PENDING
    assert (snapshot.received_chunks, snapshot.needed_number, snapshot.highest_number) == (0, 0, -1)
    assert snapshot.expires_at == driver.clock() + 24 * 3600
    assert await driver.ledger.get(new.upload_id) == snapshot
    owner = UploadOwner(new.tenant, new.subject, new.drive)
    assert await driver.ledger.owner_of(new.upload_id) == owner


async def test_an_unknown_upload_is_not_found(driver: Driver) -> None:
    unknown = driver.new().upload_id
    for call in (
        driver.ledger.get(unknown),
        driver.ledger.owner_of(unknown),
        driver.ledger.abort(unknown),
        driver.ledger.missing_chunks(unknown, 1),
        driver.ledger.wait_for_room(unknown, 1),
        driver.ledger.claim_part(unknown, 1, "w", 1),
        driver.ledger.fail(unknown, "R", "d"),
        driver.admit(unknown, 0, 1),
        driver.complete(unknown),
    ):
        with pytest.raises(NotFound) as refused:
            await call
        assert refused.value.reason == "UPLOAD_NOT_FOUND"


async def test_repeated_request_returns_its_upload_or_conflicts(driver: Driver) -> None:
    """It conflicts when the arguments differ."""
    new = driver.new()
    first = await driver.ledger.create(new)
    await driver.send(new.upload_id, 0, b"abc")
    again = await driver.ledger.create(new)
    assert (again.upload_id, again.received_chunks) == (first.upload_id, 1)
    with pytest.raises(AlreadyExists) as refused:
        await driver.ledger.create(driver.new(upload_id=new.upload_id, fingerprint="other"))
    assert refused.value.reason == "REQUEST_ID_CONFLICT"


@pytest.mark.rule(1)
async def test_rule_1_an_accepted_chunk_counts(driver: Driver) -> None:
    upload_id = await driver.create()
    accepted = await driver.send(upload_id, 0, b"abc")
    assert accepted.verdict is Verdict.NEW
    assert accepted.drop_tokens == ()
    snapshot = await driver.ledger.get(upload_id)
    assert accepted.snapshot == snapshot
    assert snapshot.status is UploadStatus.UPLOADING
    assert (snapshot.received_bytes, snapshot.received_chunks, snapshot.needed_number) == (3, 1, 1)


@pytest.mark.rule(1)
async def test_rule_1_retry_after_a_lost_response_is_new_again(driver: Driver) -> None:
    upload_id = await driver.create()
    offer = driver.offer(upload_id, 0, 3)
    first = await driver.ledger.accept_chunk(offer, crc32c(b"abc"))
    again = await driver.ledger.accept_chunk(offer, crc32c(b"abc"))
    assert again == first


@pytest.mark.rule(2)
async def test_rule_2_a_duplicate_is_acknowledged_and_changes_nothing(driver: Driver) -> None:
    upload_id = await driver.create()
    first = await driver.send(upload_id, 0, b"abc")
    offer = driver.offer(upload_id, 0, 3)
    assert (await driver.ledger.admit_chunk(offer)).granted
    again = await driver.ledger.accept_chunk(offer, crc32c(b"abc"))
    assert again.verdict is Verdict.DUPLICATE
    assert again.drop_tokens == (offer.token,)
    assert again.chunk == first.chunk
    assert again.snapshot == first.snapshot
    assert (await driver.ledger.backlog()).reserved_bytes == 0


@pytest.mark.rule(2)
async def test_rule_2_a_duplicate_is_acknowledged_after_completion(driver: Driver) -> None:
    upload_id = await driver.completed(b"hello")
    assert (await driver.send(upload_id, 0, b"hello")).verdict is Verdict.DUPLICATE
    with pytest.raises(AlreadyExists):
        await driver.send(upload_id, 0, b"HELLO")


@pytest.mark.rule(2)
@pytest.mark.parametrize("other", [b"abd", b"abcd"])
async def test_rule_2_other_content_is_a_conflict(driver: Driver, other: bytes) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    offer = driver.offer(upload_id, 0, len(other))
    assert (await driver.ledger.admit_chunk(offer)).granted  # only the content decides
    with pytest.raises(AlreadyExists) as refused:
        await driver.ledger.accept_chunk(offer, crc32c(other))
    assert refused.value.reason == "CHUNK_CONFLICT"
    assert (await driver.ledger.get(upload_id)).received_bytes == 3


@pytest.mark.rule(2)
async def test_rule_2_force_replaces_while_the_part_is_not_queued(driver: Driver) -> None:
    upload_id = await driver.create()
    first = await driver.send(upload_id, 0, b"abc")
    await driver.send(upload_id, 1, b"xyz")
    replaced = await driver.send(upload_id, 0, b"abcde", force=True)
    assert replaced.verdict is Verdict.REPLACED
    assert replaced.drop_tokens == (first.chunk.token,)
    assert (replaced.snapshot.received_bytes, replaced.snapshot.received_chunks) == (8, 2)
    done = await driver.complete(upload_id, 2)
    assert done.snapshot.crc32c == crc32c(b"abcdexyz")
    assert (await driver.claim(upload_id, 1)).size == 8


@pytest.mark.rule(2)
async def test_rule_2_force_can_fill_a_part(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    replaced = await driver.send(upload_id, 0, b"x" * PART_BYTES, force=True)
    assert replaced.ready_parts == (1,)


@pytest.mark.rule(2)
@pytest.mark.parametrize("chunk_size", [None, PART_BYTES])
async def test_rule_2_force_is_rejected_for_a_queued_part(
    driver: Driver, chunk_size: int | None
) -> None:
    upload_id = await driver.create(chunk_size=chunk_size)
    assert (await driver.send(upload_id, 0, b"x" * PART_BYTES)).ready_parts == (1,)
    offer = driver.offer(upload_id, 0, PART_BYTES, force=True)
    with pytest.raises(FailedPrecondition) as refused:
        await driver.ledger.accept_chunk(offer, crc32c(b"y" * PART_BYTES))
    assert refused.value.reason == "CHUNK_QUEUED"


@pytest.mark.rule(3)
async def test_rule_3_is_last_fixes_the_total_and_does_not_complete(driver: Driver) -> None:
    upload_id = await driver.create()
    accepted = await driver.send(upload_id, 2, b"c", is_last=True)
    assert accepted.snapshot.total_chunks == 3
    assert accepted.snapshot.status is UploadStatus.UPLOADING
    assert await driver.missing(upload_id) == [(0, 1)]


@pytest.mark.rule(3)
async def test_rule_3_the_first_is_last_wins(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 2, b"c", is_last=True)
    kind, reason = FailedPrecondition, "TOTAL_MISMATCH"
    await assert_rejected(driver, kind, reason, upload_id, 1, b"b", is_last=True)
    await assert_rejected(driver, kind, reason, upload_id, 3, b"d")
    await assert_rejected(driver, kind, reason, upload_id, 5, b"e", is_last=True)


@pytest.mark.rule(3)
async def test_rule_3_the_last_chunk_cannot_lie_below_a_received_one(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 4, b"e")
    await assert_rejected(
        driver, FailedPrecondition, "TOTAL_MISMATCH", upload_id, 2, b"c", is_last=True
    )


@pytest.mark.rule(3)
async def test_rule_3_duplicate_may_carry_is_last(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"a")
    late = await driver.send(upload_id, 0, b"a", is_last=True)
    assert late.verdict is Verdict.DUPLICATE
    assert late.snapshot.total_chunks == 1
    assert late.ready_parts == (1,)


@pytest.mark.rule(3)
@pytest.mark.parametrize("number", [-1, MAX_CHUNKS])
async def test_rule_3_numbers_are_bounded(driver: Driver, number: int) -> None:
    upload_id = await driver.create()
    await assert_rejected(driver, InvalidArgument, "BAD_CHUNK_NUMBER", upload_id, number, b"a")


async def test_chunk_beyond_the_maximum_size_is_rejected(driver: Driver) -> None:
    upload_id = await driver.create()
    await assert_rejected(driver, InvalidArgument, "CHUNK_TOO_LARGE", upload_id, 0, b"a" * 65)


@pytest.mark.rule(3)
async def test_rule_3_only_an_empty_object_has_an_empty_chunk(driver: Driver) -> None:
    upload_id = await driver.create()
    await assert_rejected(driver, InvalidArgument, "EMPTY_CHUNK", upload_id, 1, b"")
    await driver.send(upload_id, 1, b"b")
    await assert_rejected(driver, InvalidArgument, "EMPTY_CHUNK", upload_id, 0, b"")
    declared = await driver.create(expected_size=3)
    await assert_rejected(driver, InvalidArgument, "EMPTY_CHUNK", declared, 0, b"")


@pytest.mark.rule(3)
async def test_rule_3_nothing_follows_an_empty_chunk(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"")
    await assert_rejected(driver, InvalidArgument, "EMPTY_CHUNK", upload_id, 1, b"b")
    await driver.send(upload_id, 0, b"a", force=True)
    assert (await driver.send(upload_id, 1, b"b")).snapshot.received_bytes == 2


@pytest.mark.rule(4)
async def test_rule_4_a_uniform_chunk_has_the_declared_size(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=8)
    await driver.send(upload_id, 3, b"x" * 8)
    await assert_rejected(driver, InvalidArgument, "CHUNK_SIZE_MISMATCH", upload_id, 0, b"x" * 9)
    await assert_rejected(driver, InvalidArgument, "CHUNK_SIZE_MISMATCH", upload_id, 0, b"x" * 7)


@pytest.mark.rule(4)
async def test_rule_4_a_short_chunk_can_only_be_the_last(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=8)
    accepted = await driver.send(upload_id, 2, b"x" * 7)
    assert accepted.snapshot.total_chunks == 3
    await assert_rejected(driver, FailedPrecondition, "TOTAL_MISMATCH", upload_id, 3, b"x" * 8)


@pytest.mark.rule(4)
async def test_rule_4_declared_sizes_fix_every_chunk(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=8, expected_size=20)
    assert (await driver.ledger.get(upload_id)).total_chunks == 3
    await assert_rejected(driver, InvalidArgument, "CHUNK_SIZE_MISMATCH", upload_id, 2, b"x" * 3)
    await assert_rejected(driver, OutOfRange, "EXPECTED_SIZE_EXCEEDED", upload_id, 2, b"x" * 5)
    await assert_rejected(driver, OutOfRange, "EXPECTED_SIZE_EXCEEDED", upload_id, 3, b"x" * 8)
    await assert_rejected(
        driver, FailedPrecondition, "TOTAL_MISMATCH", upload_id, 1, b"x" * 8, is_last=True
    )
    await driver.send(upload_id, 2, b"x" * 4)


@pytest.mark.rule(21)
async def test_rule_21_more_bytes_than_declared_are_refused_on_arrival(driver: Driver) -> None:
    upload_id = await driver.create(expected_size=5)
    await driver.send(upload_id, 0, b"abc")
    await assert_rejected(driver, OutOfRange, "EXPECTED_SIZE_EXCEEDED", upload_id, 1, b"def")
    offer = driver.offer(upload_id, 0, 6, force=True)
    with pytest.raises(OutOfRange):
        await driver.ledger.accept_chunk(offer, 1)
    await driver.send(upload_id, 1, b"de")


async def test_ended_or_completing_upload_rejects_new_chunks(driver: Driver) -> None:
    aborted = await driver.create()
    await driver.ledger.abort(aborted)
    await assert_rejected(driver, FailedPrecondition, "UPLOAD_ENDED", aborted, 0, b"a")
    completing = await driver.create()
    await driver.send(completing, 0, b"a")
    await driver.complete(completing, 1)
    await assert_rejected(driver, FailedPrecondition, "UPLOAD_COMPLETING", completing, 1, b"b")


async def test_missing_chunks_are_the_gaps_up_to_the_highest(driver: Driver) -> None:
    upload_id = await driver.create()
    assert await driver.missing(upload_id) == []
    for number in (1, 2, 5, 9):
        await driver.send(upload_id, number, b"x")
    assert await driver.missing(upload_id) == [(0, 0), (3, 4), (6, 8)]
    two = await driver.ledger.missing_chunks(upload_id, 2)
    assert two.ranges == ranges((0, 0), (3, 4))
    assert two.truncated
    await driver.send(upload_id, 0, b"x")
    assert await driver.missing(upload_id) == [(3, 4), (6, 8)]
    assert (await driver.ledger.get(upload_id)).needed_number == 3


async def test_missing_chunks_go_up_to_the_total_once_it_is_fixed(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=8, expected_size=8 * 1000)
    await driver.send(upload_id, 3, b"x" * 8)
    assert await driver.missing(upload_id) == [(0, 2), (4, 999)]
    assert not (await driver.ledger.missing_chunks(upload_id, 2)).truncated
    assert (await driver.ledger.missing_chunks(upload_id, 1)).truncated


@pytest.mark.parametrize("chunk_size", [None, 8])
async def test_chunks_in_any_order_make_the_same_object(
    driver: Driver, chunk_size: int | None
) -> None:
    content = random.Random(7).randbytes(8 * 40 + 3)
    numbers = list(range(41))
    random.Random(8).shuffle(numbers)
    upload_id = await driver.create(chunk_size=chunk_size)
    if chunk_size is None:
        numbers.sort(key=lambda number: number // 6)  # shuffled within the look-ahead
    for number in numbers:
        piece = content[number * 8 : number * 8 + 8]
        await driver.send(upload_id, number, piece, is_last=number == 40)
        await driver.store_all()
    done = await driver.complete(upload_id, 41)
    assert done.snapshot.crc32c == crc32c(content)
    ended = await driver.finish(upload_id)
    assert (ended.status, ended.crc32c) == (UploadStatus.COMPLETED, crc32c(content))


@pytest.mark.no_cover
@pytest.mark.rule(12)
async def test_long_runs_are_processed_in_bounded_steps(driver: Driver) -> None:
    """A long run that becomes contiguous is processed in several steps within one call."""
    upload_id = await driver.create(part_bytes=500)
    for number in range(1_250, 0, -1):
        await driver.send(upload_id, number, b"x")
    accepted = await driver.send(upload_id, 0, b"x")
    assert accepted.snapshot.needed_number == 1_251
    assert accepted.ready_parts == (1, 2)
    done = await driver.complete(upload_id, 1_251)
    assert done.ready_parts == (3,)
    assert done.snapshot.crc32c == crc32c(b"x" * 1_251)
