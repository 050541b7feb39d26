"""Ledgers on Redis for the suites that every ledger passes."""

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
    """On the test process's own server, emptied for a folder that is new."""
    server = shared_server()
    _empty_once(folder, server)
    async with opened(_options(server.url), options, clock) as ledger:
        yield ledger


@asynccontextmanager
async def redis_cluster(
    folder: Path, options: LedgerOptions, clock: Clock
) -> AsyncIterator[UploadLedger]:
    """On three masters, emptied for a folder that is new."""
    cluster = shared_cluster()
    _empty_once(folder, cluster)
    async with opened(_options(cluster.url, cluster=True), options, clock) as ledger:
        yield ledger


@asynccontextmanager
async def opened(
    redis: RedisOptions, options: LedgerOptions, clock: Clock | None
) -> AsyncIterator[StagingLedger]:
    """A ledger whose chunks are staged as they are accepted."""
    async with (
        open_redis(redis) as clients,
        open_redis_monitor(clients, redis) as monitor,
        open_redis_ledger(clients, options, redis, monitor, clock=clock) as ledger,
    ):
        yield StagingLedger(ledger, clients)


def _options(url: str, *, cluster: bool = False) -> RedisOptions:
    return RedisOptions(url, cluster=cluster, operation_timeout_seconds=OPERATION_SECONDS)


def _empty_once(folder: Path, server: RedisServer | RedisCluster) -> None:
    """A folder stands for what a ledger keeps: one that was opened before finds its uploads."""
    mark = folder / "redis"
    if not mark.exists():
        server.flush()
        mark.touch()


class StagingLedger:
    """Puts bytes into the staging list before a chunk is accepted, as an intake does: the suites
    are about ledgers, and send no bytes, but this one takes no chunk without them (rule 1)."""

    def __init__(self, ledger: RedisLedger, clients: RedisClients) -> None:
        self.bare = ledger
        self._clients = clients

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def hears(self, upload_id: str) -> bool:
        """Whether the server has confirmed that changes of the upload are told to us, and before
        that, that room is."""
        return self.bare._announcements.known_state(upload_id) is not None

    def calls(self, operation: str) -> int:
        """How often Redis was asked for that."""
        registry = self._clients.metrics.registry
        labels = {"operation": operation}
        return int(registry.get_sample_value("sluice_redis_seconds_count", labels) or 0)

    async def hears_of(self, upload_id: str) -> None:
        """Return once no change of the upload goes unheard."""
        what = f"{upload_id} is subscribed to"
        await until(lambda: self.hears(upload_id), OPERATION_SECONDS, what)

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        if offer.staged:
            await self.stage(offer)
        return await self.bare.accept_chunk(offer, crc32c)

    async def stage(self, offer: ChunkOffer) -> ChunkOffer:
        """Only the bytes; the rest is for `bare.accept_chunk`."""
        await stage(self._clients, offer)
        return offer


async def stage(clients: RedisClients, offer: ChunkOffer) -> None:
    """Blocks of as many bytes as were offered; again for the same token, the same."""
    staging = keys.staging(offer.upload_id, offer.token)
    await clients.execute(staging, "UNLINK", staging)
    for at in range(0, offer.size, keys.STAGED_BLOCK_BYTES):
        block = bytes(min(keys.STAGED_BLOCK_BYTES, offer.size - at))
        await clients.execute(staging, "RPUSH", staging, block)
