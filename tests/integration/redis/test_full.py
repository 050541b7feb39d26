"""Full Redis: new chunks are refused, accepted ones are processed, so that memory drains."""

from __future__ import annotations

import pytest

from sluice_backends.redis.chunks.store import RedisChunkStore
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.ledger.ledger import open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import ResourceExhausted
from sluice_core.ports import ChunkOffer
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadStatus
from support.ledgers import ROOMY, Driver, FakeClock
from support.redis_server import RedisServer

CONTENT = b"0123456789abcdef"
CRC = crc32c(CONTENT)


async def test_full_redis_drains_accepted_chunks() -> None:
    with RedisServer() as server:
        options = RedisOptions(server.url)
        async with (
            open_redis(options) as clients,
            open_redis_monitor(clients, options) as monitor,
            open_redis_ledger(clients, ROOMY, options, monitor) as ledger,
        ):
            driver, store = Driver(ledger, FakeClock()), RedisChunkStore(clients)
            upload_id = await driver.create()
            offer = driver.offer(upload_id, 0, len(CONTENT), is_last=True)
            assert (await ledger.admit_chunk(offer)).granted
            await _send(store, offer)
            await ledger.accept_chunk(offer, CRC)
            await driver.complete(upload_id)

            server.fill_up()
            other = driver.offer(upload_id, 1, len(CONTENT))
            with pytest.raises(ResourceExhausted) as caught:
                await _send(store, other)
            assert caught.value.reason == "REDIS_FULL"
            await monitor.check()  # read-only, so it works when full
            assert monitor.memory_is_high

            claim = await driver.claim(upload_id, 1)
            chunks = await driver.chunks_of(claim)
            read = b"".join([block async for block in store.read_many(upload_id, chunks)])
            assert read == CONTENT
            await ledger.extend_claim(claim, 15.0)
            await ledger.record_part(claim, await driver.record_of(claim))
            await store.drop(upload_id, [offer.token])
            await driver.finish(upload_id)
            assert await driver.status(upload_id) is UploadStatus.COMPLETED
            assert not [name for name in server.all_keys() if ":chunks:" in name]


async def _send(store: RedisChunkStore, offer: ChunkOffer) -> None:
    async with store.stage(offer) as staged:
        await staged.append(CONTENT)
        await staged.seal()
