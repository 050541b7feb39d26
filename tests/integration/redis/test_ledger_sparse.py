"""Cost of an upload in Redis: high chunk numbers, rare states, slow chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sluice_backends.redis import keys
from sluice_backends.redis.chunks.store import RedisChunkStore
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.ledger.ledger import RedisLedger, open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.ports import ChunkOffer
from sluice_core.uploads.model import MIB, ChunkRange, UploadStatus
from support.ledgers import ROOMY, Driver, FakeClock
from support.redis_ledgers import StagingLedger
from support.redis_server import RedisServer

KIB = 1024
CHUNK = 64
FULL = b"x" * CHUNK


@pytest.fixture
async def driver(server: RedisServer, clients: RedisClients) -> AsyncIterator[Driver]:
    redis, clock = RedisOptions(server.url), FakeClock()
    async with (
        open_redis_monitor(clients, redis) as monitor,
        open_redis_ledger(clients, ROOMY, redis, monitor, clock=clock) as opened,
    ):
        yield Driver(StagingLedger(opened, clients), clock)


def used_by(server: RedisServer, upload_id: str) -> int:
    """Return the bytes of all keys of an upload."""
    with server.client() as client:
        names = [key for key in server.all_keys() if f"{{{upload_id}}}" in key]
        return sum(client.memory_usage(name, samples=0) for name in names)


async def test_high_chunk_number_costs_little(server: RedisServer, driver: Driver) -> None:
    """A single bitmap extends to the highest number: 129 KiB for one byte as chunk 999,999."""
    low, high = [await driver.create(chunk_size=CHUNK) for _ in range(2)]
    await driver.send(low, 0, FULL)
    await driver.send(high, 999_999, FULL)
    assert used_by(server, high) - used_by(server, low) < KIB


async def test_scattered_chunks_cost_little_more_than_dense_ones(
    server: RedisServer, driver: Driver
) -> None:
    dense, scattered = [await driver.create(chunk_size=CHUNK) for _ in range(2)]
    for number in range(100):
        await driver.send(dense, number, FULL)
        await driver.send(scattered, number * 10_000, FULL)
    assert used_by(server, scattered) - used_by(server, dense) < 100 * KIB / 2


async def test_no_page_outlives_its_upload(server: RedisServer, driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=CHUNK)
    await driver.send(upload_id, 999_999, FULL)
    assert keys.upload(upload_id) + "pages" in server.all_keys()
    await driver.ledger.abort(upload_id)
    await driver.ledger.events_published(upload_id, 10)
    for _ in range(2):
        await driver.ledger.cleanup_done(upload_id)
        driver.clock.advance(24 * 3600)
    with server.client() as client:
        assert client.ttl(keys.upload(upload_id) + "pages") > 0
    assert await driver.ledger.purge_due(10) == 1
    assert keys.upload(upload_id) + "pages" not in server.all_keys()


async def test_upload_of_an_earlier_release_continues(server: RedisServer, driver: Driver) -> None:
    """It has one bitmap for all numbers; new chunks are recorded in pages."""
    upload_id = await driver.create(chunk_size=CHUNK)
    await driver.send(upload_id, 20_000, FULL)
    with server.client() as client:
        client.delete(keys.upload(upload_id) + "pages")
        client.setbit(keys.upload(upload_id) + "bits", 20_000, 1)
    await driver.send(upload_id, 20_003, FULL)
    await driver.send(upload_id, 50_000, FULL)
    missing = await driver.ledger.missing_chunks(upload_id, 10)
    assert list(missing.ranges) == [
        ChunkRange(0, 19_999),
        ChunkRange(20_001, 20_002),
        ChunkRange(20_004, 49_999),
    ]


async def test_rare_state_is_found_with_bounded_work(
    driver: Driver, clients: RedisClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing a state that no upload has runs no step per upload."""
    for _ in range(60):
        driver.clock.advance(1)
        await driver.create()
    bare: RedisLedger = driver.ledger.bare  # type: ignore[attr-defined]
    steps: list[str] = []
    run = bare._steps.run

    async def counted(step: str, *arguments: object, **more: object) -> object:
        steps.append(step)
        return await run(step, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(bare._steps, "run", counted)
    page = await driver.ledger.list_uploads("acme", frozenset({UploadStatus.EXPIRED}), 1, "")
    assert (page.uploads, page.next_after, steps) == ((), "", [])


async def test_slow_chunk_keeps_its_staged_bytes(
    server: RedisServer, clients: RedisClients
) -> None:
    """Blocks are pushed once complete, which may take longer than the list's time to live."""
    store = RedisChunkStore(clients, staging_seconds=0.6)
    offer = ChunkOffer("u", 0, 2 * MIB, "token")
    async with store.stage(offer) as staged:
        await staged.append(bytes(MIB))
        await staged.append(bytes(1000))
        for _ in range(6):
            await asyncio.sleep(0.25)  # in total more than twice the list's time to live
            await staged.keep()
        await staged.append(bytes(MIB - 1000))
        await staged.seal()
    with server.client() as client:
        assert client.llen(keys.staging("u", "token")) == 2
