"""Durability class `replicated`: accepted chunks are on the replicas (rule 6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.ledger.ledger import open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import Unavailable
from sluice_core.ports import Acceptance, Verdict
from support.ledgers import ROOMY, Driver, FakeClock
from support.redis_ledgers import StagingLedger
from support.redis_server import RedisServer, replicated


@asynccontextmanager
async def replicating(servers: Sequence[RedisServer]) -> AsyncIterator[Driver]:
    redis = RedisOptions(servers[0].url, wait_timeout_ms=300)
    clock = FakeClock()
    async with (
        open_redis(redis) as clients,
        open_redis_monitor(clients, redis) as monitor,
        open_redis_ledger(clients, ROOMY, redis, monitor, replicated=True, clock=clock) as ledger,
    ):
        yield Driver(StagingLedger(ledger, clients), clock)


@pytest.mark.rule(6)
async def test_accepted_chunk_is_on_the_replica() -> None:
    with replicated() as servers:
        async with replicating(servers) as driver:
            upload_id = await driver.create()
            await driver.send(upload_id, 0, b"abc")
            with servers[1].client() as replica:
                assert replica.hexists(keys.received(upload_id), "0")
                assert replica.llen(keys.chunk(upload_id, 0)) == 1


@pytest.mark.rule(6)
async def test_missing_replica_blocks_the_ack_of_chunk_and_duplicate() -> None:
    with replicated() as servers:
        async with replicating(servers) as driver:
            upload_id = await driver.create()
            servers[1].pause()
            try:
                for _ in range(2):  # the second time it is a duplicate
                    with pytest.raises(Unavailable) as refused:
                        await driver.send(upload_id, 0, b"abc")
                    assert refused.value.reason == "NOT_REPLICATED"
            finally:
                servers[1].go_on()
            assert (await _sent_again(driver, upload_id)).verdict is Verdict.DUPLICATE
            assert (await driver.ledger.get(upload_id)).received_chunks == 1


async def _sent_again(driver: Driver, upload_id: str) -> Acceptance:
    """Resend until acknowledged, as a client does, while the replica catches up."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await driver.send(upload_id, 0, b"abc")
            except Unavailable:
                await asyncio.sleep(0.1)
