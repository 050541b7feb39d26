"""Redis ledgers for the contract suites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.ledger.ledger import RedisLedger, open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ports import Acceptance, ChunkOffer, UploadLedger
from support.redis_server import (
    OPERATION_SECONDS,
    RedisCluster,
    RedisServer,
    shared_cluster,
    shared_server,
)
from support.waiting import until


@asynccontextmanager
async def redis(folder: Path, options: LedgerOptions, clock: Clock) -> AsyncIterator[UploadLedger]:
    """Open a ledger on this test process's server, flushed once per folder."""
    server = shared_server()
    _empty_once(folder, server)
    async with opened(_options(server.url), options, clock) as ledger:
        yield ledger


@asynccontextmanager
async def redis_cluster(
    folder: Path, options: LedgerOptions, clock: Clock
) -> AsyncIterator[UploadLedger]:
    """Open a ledger on three masters, flushed once per folder."""
    cluster = shared_cluster()
    _empty_once(folder, cluster)
    async with opened(_options(cluster.url, cluster=True), options, clock) as ledger:
        yield ledger


@asynccontextmanager
async def opened(
    redis: RedisOptions, options: LedgerOptions, clock: Clock | None
) -> AsyncIterator[StagingLedger]:
    """Open a ledger that stages chunks on acceptance."""
    async with (
        open_redis(redis) as clients,
        open_redis_monitor(clients, redis) as monitor,
        open_redis_ledger(clients, options, redis, monitor, clock=clock) as ledger,
    ):
        yield StagingLedger(ledger, clients)


def _options(url: str, *, cluster: bool = False) -> RedisOptions:
    return RedisOptions(url, cluster=cluster, operation_timeout_seconds=OPERATION_SECONDS)


def _empty_once(folder: Path, server: RedisServer | RedisCluster) -> None:
    """Flush the server for a new folder; a folder that was used before keeps its uploads."""
    mark = folder / "redis"
    if not mark.exists():
        server.flush()
        mark.touch()


class StagingLedger:
    """A ledger that stages bytes before it accepts a chunk, as an intake does.

    The suites send no bytes, but this ledger rejects a chunk without them (rule 1).
    """

    def __init__(self, ledger: RedisLedger, clients: RedisClients) -> None:
        self.bare = ledger
        self._clients = clients

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def is_subscribed(self, upload_id: str) -> bool:
        """Return whether the server has confirmed the subscriptions to the upload and to room."""
        return self.bare._announcements.known_state(upload_id) is not None

    def calls(self, operation: str) -> int:
        """Return the number of Redis calls of this operation."""
        registry = self._clients.metrics.registry
        labels = {"operation": operation}
        return int(registry.get_sample_value("sluice_redis_seconds_count", labels) or 0)

    async def wait_until_subscribed(self, upload_id: str) -> None:
        """Wait until every change of the upload is notified."""
        what = f"{upload_id} is subscribed to"
        await until(lambda: self.is_subscribed(upload_id), OPERATION_SECONDS, what)

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        if offer.staged:
            await self.stage(offer)
        return await self.bare.accept_chunk(offer, crc32c)

    async def stage(self, offer: ChunkOffer) -> ChunkOffer:
        """Stage only the bytes; `bare.accept_chunk` does the rest."""
        await stage(self._clients, offer)
        return offer


async def stage(clients: RedisClients, offer: ChunkOffer) -> None:
    """Stage blocks of the offered size; idempotent per token."""
    staging = keys.staging(offer.upload_id, offer.token)
    await clients.execute(staging, "UNLINK", staging)
    for at in range(0, offer.size, keys.STAGED_BLOCK_BYTES):
        block = bytes(min(keys.STAGED_BLOCK_BYTES, offer.size - at))
        await clients.execute(staging, "RPUSH", staging, block)
