"""Rules 9 and 10: bytes are bounded, and some upload can always progress."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.errors import ResourceExhausted
from sluice_core.ports import Admission, ChunkOffer
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadStatus
from support.ledgers import HOUR, Driver, OpenDriver
from support.waiting import until

CHUNK = 8
FULL = b"x" * CHUNK


async def tight(open_driver: OpenDriver, **changes: int) -> Driver:
    """Room for five chunks of 8 bytes; a part is two chunks."""
    options = {"budget_bytes": 5 * CHUNK, "max_chunk_bytes": CHUNK, **changes}
    return await open_driver(**options)


async def hold(driver: Driver, upload_id: str, *numbers: int) -> None:
    for number in numbers:
        await driver.send(upload_id, number, FULL)


async def admit(driver: Driver, upload_id: str, number: int) -> Admission:
    return await driver.admit(upload_id, number, CHUNK)


@pytest.mark.rule(9)
async def test_rule_9_admitted_bytes_are_reserved_until_accepted(driver: Driver) -> None:
    upload_id = await driver.create()
    offer = driver.offer(upload_id, 0, 8)
    for _ in range(2):  # asking again does not count twice
        assert (await driver.ledger.admit_chunk(offer)).granted
    backlog = await driver.ledger.backlog()
    assert (backlog.reserved_bytes, backlog.queued_bytes, backlog.open_uploads) == (8, 0, 1)
    await driver.ledger.accept_chunk(offer, 1)
    backlog = await driver.ledger.backlog()
    assert (backlog.reserved_bytes, backlog.queued_bytes) == (0, 8)


@pytest.mark.rule(9)
async def test_rule_9_reservation_is_released_or_expires(driver: Driver) -> None:
    upload_id = await driver.create()
    offer = driver.offer(upload_id, 0, 8)
    await driver.ledger.admit_chunk(offer)
    for _ in range(2):
        await driver.ledger.release_chunk(offer)
    assert (await driver.ledger.backlog()).reserved_bytes == 0
    await driver.ledger.admit_chunk(offer)
    driver.clock.advance(599)
    assert (await driver.ledger.backlog()).reserved_bytes == 8
    driver.clock.advance(1)
    assert (await driver.ledger.backlog()).reserved_bytes == 0
    await driver.ledger.accept_chunk(offer, 1)  # late, but the bytes are there


@pytest.mark.rule(9)
async def test_rule_9_a_refused_chunk_keeps_no_reservation(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    offer = driver.offer(upload_id, 0, 3)
    await driver.ledger.admit_chunk(offer)
    with pytest.raises(Exception, match="CHUNK_CONFLICT"):
        await driver.ledger.accept_chunk(offer, crc32c(b"abd"))
    assert (await driver.ledger.backlog()).reserved_bytes == 0


@pytest.mark.rule(10)
async def test_rule_10_look_ahead_bounds_bytes_outside_ready_parts(driver: Driver) -> None:
    upload_id = await driver.create()
    await hold(driver, upload_id, *range(8, 0, -1))  # four parts, and chunk 0 missing
    refused = await admit(driver, upload_id, 9)
    assert refused == Admission(granted=False, reason="LOOKAHEAD_EXCEEDED", needed_number=0)
    await hold(driver, upload_id, 0)
    assert (await admit(driver, upload_id, 9)).granted


@pytest.mark.rule(10)
async def test_rule_10_look_ahead_does_not_bind_uniform_uploads(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=CHUNK)
    await hold(driver, upload_id, *range(99, 0, -1))
    assert (await admit(driver, upload_id, 100)).granted


@pytest.mark.rule(10)
async def test_rule_10_large_chunks_look_ahead_by_their_own_size(driver: Driver) -> None:
    upload_id = await driver.create()
    for number in (1, 2, 3, 4):
        assert (await driver.admit(upload_id, number, 64)).granted
    assert (await driver.admit(upload_id, 5, 64)).reason == "LOOKAHEAD_EXCEEDED"


@pytest.mark.rule(9)
async def test_rule_9_no_upload_begins_while_the_budget_is_full(open_driver: OpenDriver) -> None:
    driver = await tight(open_driver)
    upload_id = await driver.create(chunk_size=CHUNK)
    await hold(driver, upload_id, 0, 2, 4, 6, 8)
    with pytest.raises(ResourceExhausted) as refused:
        await driver.create()
    assert refused.value.reason == "BUDGET_FULL"
    assert refused.value.retry_after_seconds
    await driver.ledger.abort(upload_id)
    await driver.create()


@pytest.mark.rule(9)
async def test_rule_9_the_oldest_upload_that_asks_draws_on_the_reserve(
    open_driver: OpenDriver,
) -> None:
    driver = await tight(open_driver)
    older = await driver.create(chunk_size=CHUNK)
    driver.clock.advance(1)
    newer = await driver.create(chunk_size=CHUNK)
    await hold(driver, older, 0, 2)
    await hold(driver, newer, 0, 2, 4)
    refused = await admit(driver, older, 5)  # of another part than the one that is needed
    assert refused == Admission(granted=False, reason="BUDGET_FULL", needed_number=1)
    await hold(driver, older, 1)
    assert not (await admit(driver, newer, 1)).granted
    assert not (await admit(driver, older, 3)).granted  # one part at a time
    await driver.store(older, 1)
    await hold(driver, older, 3)
    await driver.store(older, 2)
    await hold(driver, newer, 1)


@pytest.mark.rule(9)
async def test_rule_9_election_lapses_when_its_upload_vanishes(
    open_driver: OpenDriver,
) -> None:
    driver = await tight(open_driver)
    older = await driver.create(chunk_size=CHUNK, part_bytes=3 * CHUNK)
    driver.clock.advance(1)
    newer = await driver.create(chunk_size=CHUNK)
    await hold(driver, older, 0, 3)
    await hold(driver, newer, 0, 2, 4)
    await hold(driver, older, 1)  # elected, and then never seen again
    assert not (await admit(driver, newer, 1)).granted
    driver.clock.advance(9)
    assert not (await admit(driver, newer, 1)).granted
    driver.clock.advance(1)
    await hold(driver, newer, 1)


@pytest.mark.rule(9)
async def test_rule_9_the_end_of_the_elected_upload_ends_its_election(
    open_driver: OpenDriver,
) -> None:
    driver = await tight(open_driver)
    older = await driver.create(chunk_size=CHUNK, part_bytes=3 * CHUNK)
    newer = await driver.create(chunk_size=CHUNK)
    await hold(driver, older, 0)
    await hold(driver, newer, 0, 2, 4, 6)
    await hold(driver, older, 1)
    assert not (await admit(driver, newer, 1)).granted
    await driver.ledger.abort(older)
    assert (await driver.ledger.backlog()).queued_bytes == 4 * CHUNK
    await hold(driver, newer, 1, 3)


@pytest.mark.rule(9)
@pytest.mark.parametrize("bound", ["tenant_budget_bytes", "upload_budget_bytes"])
async def test_rule_9_an_upload_completes_a_part_beyond_its_own_bounds(
    open_driver: OpenDriver, bound: str
) -> None:
    driver = await tight(open_driver, budget_bytes=1000, **{bound: 3 * CHUNK})
    upload_id = await driver.create(chunk_size=CHUNK)
    await hold(driver, upload_id, 0, 2, 4)
    assert (await admit(driver, upload_id, 5)).reason == "BUDGET_FULL"
    await hold(driver, upload_id, 1)
    stranger = await driver.create(tenant="other", chunk_size=CHUNK)
    await hold(driver, stranger, 0, 2, 4)
    await driver.store(upload_id, 1)
    await hold(driver, upload_id, 3)


@pytest.mark.rule(9)
async def test_rule_9_tenants_have_separate_bounds(
    open_driver: OpenDriver,
) -> None:
    driver = await tight(open_driver, tenant_budget_bytes=3 * CHUNK)
    greedy = [await driver.create(tenant="greedy", chunk_size=CHUNK) for _ in range(2)]
    await hold(driver, greedy[0], 0, 2)
    await hold(driver, greedy[1], 0)
    assert not (await admit(driver, greedy[1], 3)).granted
    modest = await driver.create(tenant="modest", chunk_size=CHUNK)
    await hold(driver, modest, 0, 1)


@pytest.mark.rule(9)
async def test_rule_9_slow_chunks_yield_to_their_own_tenant(open_driver: OpenDriver) -> None:
    """A chunk of a tenant at its bound is pressed, one of another tenant is not."""
    driver = await tight(open_driver, budget_bytes=100 * CHUNK, tenant_budget_bytes=3 * CHUNK)
    greedy = [await driver.create(tenant="greedy", chunk_size=CHUNK) for _ in range(2)]
    modest = await driver.create(tenant="modest", chunk_size=CHUNK)
    slow, other = driver.offer(greedy[0], 1, CHUNK), driver.offer(modest, 0, CHUNK)
    for offer in (slow, other):
        assert not (await driver.ledger.admit_chunk(offer)).pressed
    await hold(driver, greedy[0], 0, 2)
    assert not (await admit(driver, greedy[1], 3)).granted
    assert (await driver.ledger.admit_chunk(slow)).pressed
    assert not (await driver.ledger.admit_chunk(other)).pressed
    driver.clock.advance(2)
    assert not (await driver.ledger.admit_chunk(slow)).pressed


@pytest.mark.rule(9)
async def test_rule_9_idle_holders_expire_under_pressure(open_driver: OpenDriver) -> None:
    driver = await tight(open_driver)
    idle = await driver.create(chunk_size=CHUNK)
    await hold(driver, idle, 0, 2, 4, 6, 8)
    driver.clock.advance(HOUR)
    assert await driver.ledger.expire_due(10) == []
    driver.clock.advance(60)
    (expired,) = await driver.ledger.expire_due(10)
    assert (expired.upload_id, expired.failure_reason) == (idle, "PRESSURE")
    assert expired.status is UploadStatus.EXPIRED


@pytest.mark.rule(9)
@pytest.mark.parametrize("limit", [10, 1])
async def test_rule_9_rejected_uploads_are_not_idle(open_driver: OpenDriver, limit: int) -> None:
    """They do not use up the limit of a search for idle uploads either."""
    driver = await tight(open_driver)
    asking = await driver.create(chunk_size=CHUNK)
    idle = await driver.create(chunk_size=CHUNK)
    await hold(driver, asking, 0, 2)
    await hold(driver, idle, 0, 2, 4)
    for _ in range(10):
        driver.clock.advance(HOUR / 6)
        assert not (await admit(driver, asking, 5)).granted
        ended = [upload.upload_id for upload in await driver.ledger.expire_due(limit)]
        if ended:
            break
    assert ended == [idle]


@pytest.mark.rule(9)
async def test_rule_9_without_pressure_idle_holders_stay(open_driver: OpenDriver) -> None:
    driver = await tight(open_driver)
    idle = await driver.create(chunk_size=CHUNK)
    await hold(driver, idle, 0, 2)
    for _ in range(3):
        driver.clock.advance(HOUR)
        assert await driver.ledger.expire_due(10) == []


async def seconds_of_waiting(driver: Driver, upload_id: str) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await driver.ledger.wait_for_room(upload_id, 60)
    return loop.time() - started


async def full(open_driver: OpenDriver) -> tuple[Driver, str, ChunkOffer]:
    driver = await tight(open_driver)
    upload_id = await driver.create(chunk_size=CHUNK)
    await hold(driver, upload_id, 0, 1, 2, 4, 6)
    offer = driver.offer(upload_id, 8, CHUNK)
    assert not (await driver.ledger.admit_chunk(offer)).granted
    return driver, upload_id, offer


@pytest.mark.usefixtures("no_polling")
async def test_wait_for_room_ends_when_bytes_are_freed(open_driver: OpenDriver) -> None:
    driver, upload_id, offer = await full(open_driver)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(seconds_of_waiting(driver, upload_id))
        await until(lambda: driver.is_subscribed(upload_id))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await driver.store(upload_id, 1)
    assert waiting.result() < 30
    assert (await driver.ledger.admit_chunk(offer)).granted


@pytest.mark.usefixtures("no_polling")
async def test_wait_for_room_ends_when_the_upload_progresses(open_driver: OpenDriver) -> None:
    driver, upload_id, _ = await full(open_driver)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(seconds_of_waiting(driver, upload_id))
        await until(lambda: driver.is_subscribed(upload_id))
        await asyncio.sleep(0.05)
        await hold(driver, upload_id, 3)
    assert waiting.result() < 30


@pytest.mark.usefixtures("no_polling")
async def test_wait_for_room_sees_an_earlier_change(open_driver: OpenDriver) -> None:
    driver, upload_id, _ = await full(open_driver)
    await driver.store(upload_id, 1)
    assert await seconds_of_waiting(driver, upload_id) < 30


async def test_wait_for_room_times_out(open_driver: OpenDriver) -> None:
    driver, upload_id, _ = await full(open_driver)
    async with asyncio.timeout(30):
        await driver.ledger.wait_for_room(upload_id, 0.05)
