"""The cost of a chunk does not grow with the number of chunks before it."""

from __future__ import annotations

import time

import pytest

from sluice_common.coordination.memory.ledger import MemoryLedger
from sluice_common.coordination.options import LedgerOptions
from sluice_common.coordination.ports import ChunkOffer
from support.ledgers import Driver, FakeClock

BATCH = 1_000
BATCHES = 5
MOST_GROWTH = 1.2
OPTIONS = LedgerOptions(
    budget_bytes=1 << 40, tenant_budget_bytes=1 << 40, upload_budget_bytes=1 << 40
)


async def seconds_of(driver: Driver, upload_id: str, first: int, count: int) -> float:
    ledger = driver.ledger
    started = time.process_time()
    for number in range(first, first + count):
        offer = ChunkOffer(upload_id, number, 1024, str(number))
        admission = await ledger.admit_chunk(offer)
        assert admission.granted
        await ledger.accept_chunk(offer, number)
    return time.process_time() - started


async def fastest_batch(driver: Driver, upload_id: str, first: int) -> float:
    """The fastest of some batches: what the machine does besides only ever slows one down."""
    return min(
        [await seconds_of(driver, upload_id, first + at * BATCH, BATCH) for at in range(BATCHES)]
    )


@pytest.mark.rule(12)
@pytest.mark.parametrize("chunk_size", [None, 1024])
async def test_a_chunk_costs_the_same_after_a_hundred_thousand(chunk_size: int | None) -> None:
    driver = Driver(MemoryLedger(OPTIONS, clock := FakeClock()), clock)
    upload_id = await driver.create(chunk_size=chunk_size, part_bytes=8 * 1024 * 1024)
    early = await fastest_batch(driver, upload_id, 0)
    behind = BATCH * BATCHES
    await seconds_of(driver, upload_id, behind, 100_000 - behind)
    late = await fastest_batch(driver, upload_id, 100_000)
    assert late / early <= MOST_GROWTH
