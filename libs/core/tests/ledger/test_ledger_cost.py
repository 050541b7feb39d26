"""Cost per chunk as the number of chunks grows."""

from __future__ import annotations

import time

import pytest

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import ChunkOffer
from support.ledgers import Driver, FakeClock

pytestmark = pytest.mark.measures

BATCH = 1_000
BATCHES = 8
MOST_GROWTH = 1.2
OPTIONS = LedgerOptions(
    budget_bytes=1 << 40, tenant_budget_bytes=1 << 40, upload_budget_bytes=1 << 40
)


async def open_upload(chunk_size: int | None) -> tuple[Driver, str]:
    driver = Driver(MemoryLedger(OPTIONS, clock := FakeClock()), clock)
    return driver, await driver.create(chunk_size=chunk_size, part_bytes=8 * 1024 * 1024)


async def seconds_of(driver: Driver, upload_id: str, first: int, count: int) -> float:
    ledger = driver.ledger
    started = time.thread_time()
    for number in range(first, first + count):
        offer = ChunkOffer(upload_id, number, 1024, str(number))
        admission = await ledger.admit_chunk(offer)
        assert admission.granted
        await ledger.accept_chunk(offer, number)
    return time.thread_time() - started


@pytest.mark.rule(12)
@pytest.mark.parametrize("chunk_size", [None, 1024])
async def test_cost_of_a_chunk_is_constant_after_100_000(chunk_size: int | None) -> None:
    """Measure both cases alternately, because the machine's speed varies. Compare the fastest run
    of each: other load only slows a run down."""
    few, many = await open_upload(chunk_size), await open_upload(chunk_size)
    await seconds_of(*many, 0, 100_000)
    early, late = [], []
    for at in range(0, BATCHES * BATCH, BATCH):
        early.append(await seconds_of(*few, at, BATCH))
        late.append(await seconds_of(*many, 100_000 + at, BATCH))
    assert min(late) / min(early) <= MOST_GROWTH
