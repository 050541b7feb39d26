"""Opener of the backend of uploads in progress: ledger, chunks and work queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sluice_backends.redis.metrics import RedisMetrics
from sluice_common.backends.opening import as_configuration_error
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Durability
from sluice_core.ports import ChunkStore, UploadLedger, WorkQueue

SETTING: Final = "SLUICE_REDIS__URL"


@dataclass(frozen=True, slots=True)
class CoordinationPorts:
    """The three ports of one backend."""

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue


@asynccontextmanager
async def open_redis_coordination(
    settings: SluiceSettings, metrics: RedisMetrics
) -> AsyncIterator[CoordinationPorts]:
    """Open the three ports on Redis.

    Raise `ConfigurationError` if it cannot be reached or cannot keep the durability class.
    """
    from sluice_backends.redis.checks import check_server
    from sluice_backends.redis.chunks.store import RedisChunkStore
    from sluice_backends.redis.client.connection import open_redis
    from sluice_backends.redis.ledger.ledger import open_redis_ledger
    from sluice_backends.redis.monitoring import open_redis_monitor
    from sluice_backends.redis.queue.queue import open_redis_queue

    redis = settings.redis.to_options()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        with as_configuration_error(SETTING):
            clients = await enter(open_redis(redis, metrics))
            await check_server(clients, settings.durability, redis)
            monitor = await enter(
                open_redis_monitor(clients, redis, durability=settings.durability)
            )
            ledger = await enter(
                open_redis_ledger(
                    clients,
                    settings.to_ledger_options(),
                    redis,
                    monitor,
                    replicated=settings.durability is Durability.REPLICATED,
                )
            )
        queue = await enter(
            open_redis_queue(clients, redis, settings.queue.lease_seconds, settings.queue.max_items)
        )
        # Staged bytes live as long as a reservation, which is requested again after each renewal of
        # the bytes. So it outlives them, and they count for as long as they exist (rule 9).
        chunks = RedisChunkStore(clients, settings.lifetimes.reservation_seconds)
        yield CoordinationPorts(ledger, chunks, queue)
