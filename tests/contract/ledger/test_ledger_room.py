"""Rule 9 while chunks arrive: received bytes take room, and staged bytes always count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_core.errors import Aborted, ResourceExhausted
from sluice_core.ports import Admission, ChunkOffer, Verdict
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import ChunkRange, UploadStatus
from support.ledgers import Driver, OpenDriver

CHUNK = 64
PART = 2 * CHUNK
FULL = b"x" * CHUNK


async def tight(open_driver: OpenDriver, **changes: int) -> Driver:
    """Room for five chunks of 64 bytes."""
    return await open_driver(**{"budget_bytes": 5 * CHUNK, "max_chunk_bytes": CHUNK, **changes})


async def begin(driver: Driver) -> str:
    return await driver.create(chunk_size=CHUNK, part_bytes=PART)


async def ask(driver: Driver, offer: ChunkOffer, hold_bytes: int) -> Admission:
    return await driver.ledger.admit_chunk(replace(offer, hold_bytes=hold_bytes))


async def reserved(driver: Driver) -> int:
    return (await driver.ledger.backlog()).reserved_bytes


@pytest.mark.rule(9)
async def test_chunk_reserves_only_what_it_requests(driver: Driver) -> None:
    upload_id = await begin(driver)
    offer = driver.offer(upload_id, 0, CHUNK)
    for hold_bytes in (4, 4, 40, 16, CHUNK):
        admission = await ask(driver, offer, hold_bytes)
        assert (admission.granted, admission.held_bytes) == (True, hold_bytes)
        assert await reserved(driver) == hold_bytes
    await driver.ledger.accept_chunk(offer, 1)
    backlog = await driver.ledger.backlog()
    assert (backlog.reserved_bytes, backlog.queued_bytes) == (0, CHUNK)


@pytest.mark.rule(9)
async def test_announced_chunks_do_not_block_others(open_driver: OpenDriver) -> None:
    """Forty chunks that were only announced take less than half of the room for five."""
    driver = await tight(open_driver, upload_budget_bytes=100 * CHUNK)
    slow = await begin(driver)
    for number in range(10, 50):
        assert (await ask(driver, driver.offer(slow, number, CHUNK), 3)).granted
    assert await reserved(driver) == 40 * 3
    await driver.send(await begin(driver), 0, FULL)


@pytest.mark.rule(9)
async def test_rejected_step_keeps_the_reservation(open_driver: OpenDriver) -> None:
    driver = await tight(open_driver)
    upload_id = await begin(driver)
    first, second = driver.offer(upload_id, 3, CHUNK), driver.offer(upload_id, 5, CHUNK)
    await ask(driver, first, 8)
    await ask(driver, second, 8)
    for number in (7, 9, 11, 13):
        await driver.send(upload_id, number, FULL)
    refused = await ask(driver, first, CHUNK)
    assert (refused.granted, refused.reason, refused.held_bytes) == (False, "BUDGET_FULL", 8)
    assert await reserved(driver) == 16
    await driver.ledger.release_chunk(second)
    assert await reserved(driver) == 8


@pytest.mark.rule(9)
async def test_begun_chunks_go_before_new_ones(open_driver: OpenDriver) -> None:
    """Otherwise new chunks would divide the room until no half-received one can finish."""
    driver = await tight(open_driver)
    upload_id = await begin(driver)
    begun = driver.offer(upload_id, 3, CHUNK)
    await ask(driver, begun, 8)
    await ask(driver, driver.offer(upload_id, 5, CHUNK), 8)
    for number in (7, 9, 11, 13):
        await driver.send(upload_id, number, FULL)
    assert not (await ask(driver, begun, CHUNK)).granted
    assert not (await ask(driver, driver.offer(upload_id, 15, CHUNK), 8)).granted
    driver.clock.advance(3)  # no client requests room any more
    assert (await ask(driver, driver.offer(upload_id, 15, CHUNK), 8)).granted


@pytest.mark.rule(9)
async def test_elected_upload_gets_the_rest_of_its_chunk(open_driver: OpenDriver) -> None:
    """Half-received chunks fill the budget, and still one of them can finish."""
    driver = await tight(open_driver)
    uploads = [await begin(driver) for _ in range(10)]
    offers = [driver.offer(upload_id, 0, CHUNK) for upload_id in uploads]
    for offer in offers:
        assert (await ask(driver, offer, CHUNK // 2)).granted
    granted = [offer for offer in offers if (await ask(driver, offer, CHUNK // 2 + 1)).granted]
    assert len(granted) == 1
    admission = await ask(driver, granted[0], CHUNK // 2 + 2)
    assert (admission.granted, admission.held_bytes) == (True, CHUNK // 2 + 2)
    assert (await driver.ledger.accept_chunk(granted[0], 1)).verdict is Verdict.NEW


@pytest.mark.rule(9)
async def test_a_reservation_lives_as_long_as_it_is_renewed(driver: Driver) -> None:
    upload_id = await begin(driver)
    offer = driver.offer(upload_id, 0, CHUNK)
    await ask(driver, offer, 16)
    for _ in range(5):
        driver.clock.advance(599)
        assert (await ask(driver, offer, 16)).granted
    assert await reserved(driver) == 16
    driver.clock.advance(601)
    assert await reserved(driver) == 0


@pytest.mark.rule(9)
async def test_a_chunk_that_waits_keeps_its_reservation(open_driver: OpenDriver) -> None:
    driver = await tight(open_driver)
    upload_id = await begin(driver)
    waiting, other = driver.offer(upload_id, 3, CHUNK), driver.offer(upload_id, 5, CHUNK)
    await ask(driver, waiting, 8)
    for number in (7, 9, 11, 13):
        await driver.send(upload_id, number, FULL)
    for _ in range(3):
        await ask(driver, other, 8)
        assert not (await ask(driver, waiting, CHUNK)).granted
        driver.clock.advance(500)
    assert await reserved(driver) == 16


@pytest.mark.rule(9)
async def test_accept_without_room_is_refused(open_driver: OpenDriver) -> None:
    """An expired reservation does not admit a chunk beyond the budget."""
    driver = await tight(open_driver)
    late, other = await begin(driver), await begin(driver)
    offer = driver.offer(late, 5, CHUNK)
    await driver.ledger.admit_chunk(offer)
    driver.clock.advance(601)
    for number in (1, 3, 5, 7, 9):
        await driver.send(other, number, FULL)
    with pytest.raises(ResourceExhausted) as refused:
        await driver.ledger.accept_chunk(offer, 1)
    assert refused.value.reason == "BUDGET_FULL"
    assert refused.value.retry_after_seconds
    assert refused.value.metadata == {"number": "5", "needed_number": "0"}
    backlog = await driver.ledger.backlog()
    assert (backlog.queued_bytes, backlog.reserved_bytes) == (5 * CHUNK, 0)


@pytest.mark.rule(2, 9)
async def test_duplicates_without_room_are_only_compared(open_driver: OpenDriver) -> None:
    """An accepted chunk can be sent again at any time; its bytes then take no room."""
    driver = await tight(open_driver)
    upload_id = await begin(driver)
    for number in (1, 3, 5, 7, 9):
        await driver.send(upload_id, number, FULL)
    offer = driver.offer(upload_id, 3, CHUNK)
    admission = await ask(driver, offer, 8)
    assert (admission.granted, admission.known, admission.held_bytes) == (True, True, CHUNK)
    assert await reserved(driver) == 0
    again = await driver.ledger.accept_chunk(replace(offer, staged=False), crc32c(FULL))
    assert again.verdict is Verdict.DUPLICATE


@pytest.mark.rule(2, 9)
async def test_duplicates_with_room_reserve_it(driver: Driver) -> None:
    upload_id = await begin(driver)
    await driver.send(upload_id, 3, FULL)
    offer = driver.offer(upload_id, 3, CHUNK)
    admission = await driver.ledger.admit_chunk(offer)
    assert (admission.granted, admission.known) == (True, False)
    assert await reserved(driver) == CHUNK
    await driver.ledger.accept_chunk(offer, crc32c(FULL))
    assert await reserved(driver) == 0


@pytest.mark.rule(1, 8)
async def test_a_new_chunk_without_bytes_is_refused(driver: Driver) -> None:
    """It was accepted when its header arrived, and rejected before its last byte."""
    upload_id = await begin(driver)
    offer = replace(driver.offer(upload_id, 0, CHUNK), staged=False)
    with pytest.raises(Aborted, match="STAGING_LOST"):
        await driver.ledger.accept_chunk(offer, 1)
    assert (await driver.ledger.get(upload_id)).received_chunks == 0


# ------------------------------------------------------------------ sparse uploads


@pytest.mark.parametrize("number", [1023, 1024, 8191, 8192, 8193, 500_000, 999_999])
async def test_gaps_around_a_high_number_are_exact(driver: Driver, number: int) -> None:
    upload_id = await driver.create(chunk_size=CHUNK, part_bytes=PART)
    for each in (number, number - 2, 3):
        await driver.send(upload_id, each, FULL)
    missing = await driver.ledger.missing_chunks(upload_id, 10)
    assert list(missing.ranges) == [
        ChunkRange(0, 2),
        ChunkRange(4, number - 3),
        ChunkRange(number - 1, number - 1),
    ]
    assert not missing.truncated


async def test_chunks_of_a_high_part_are_found(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=CHUNK, part_bytes=4 * CHUNK)
    acceptance = [await driver.send(upload_id, 9_000 + n, FULL) for n in range(24)]
    parts = [part for one in acceptance for part in one.ready_parts]
    assert parts
    for number in parts:
        claim = await driver.ledger.claim_part(upload_id, number, "worker", 15.0)
        assert claim is not None
        chunks = await driver.ledger.part_chunks(upload_id, claim.plan, -1, 100)
        assert [chunk.number for chunk in chunks] == list(
            range(claim.plan.first_chunk, claim.plan.last_chunk + 1)
        )


# ------------------------------------------------------------------ lists


async def test_pages_of_a_rare_state_end(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page scans a bounded number of uploads; its token continues until all are scanned."""
    for module in ("sluice_core.ledger.lifecycle", "sluice_backends.redis.ledger.listing"):
        monkeypatch.setattr(f"{module}.SCAN_UPLOADS", 4)
    rare = []
    for at in range(15):
        driver.clock.advance(1)
        upload_id = await driver.create()
        if at in (1, 8):
            await driver.ledger.abort(upload_id)
            rare.append(upload_id)
    aborted = frozenset({UploadStatus.ABORTED})
    found: list[str] = []
    after, pages = "", 0
    while pages == 0 or after:
        page = await driver.ledger.list_uploads("acme", aborted, 10, after)
        found += [one.upload_id for one in page.uploads]
        after, pages = page.next_after, pages + 1
    assert found == rare[::-1]
    assert pages == 4
    everything = await driver.ledger.list_uploads("acme", frozenset(), 10, "")
    assert len(everything.uploads) == 4
    assert everything.next_after


async def test_full_page_continues_at_the_next_match(driver: Driver) -> None:
    ids = []
    for _ in range(6):
        driver.clock.advance(1)
        ids.append(await driver.create())
    await driver.ledger.abort(ids[5])
    await driver.ledger.abort(ids[2])
    aborted = frozenset({UploadStatus.ABORTED})
    first = await driver.ledger.list_uploads("acme", aborted, 1, "")
    assert [one.upload_id for one in first.uploads] == [ids[5]]
    second = await driver.ledger.list_uploads("acme", aborted, 1, first.next_after)
    assert ([one.upload_id for one in second.uploads], second.next_after) == ([ids[2]], "")
