"""Live updates of the contract, from one process and from two. Add a backend by a line in ALL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.live.updates import RedisLiveUpdates
from sluice_backends.redis.options import RedisOptions
from sluice_core.live.log import Entry
from sluice_core.live.updates import Audience, Update
from sluice_core.ports.live_updates import Listening, LiveUpdates
from support.redis_server import OPERATION_SECONDS, shared_cluster, shared_server

ANN = Audience("acme", "ann")
BOB = Audience("acme", "bob")
CAPACITY = 20


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two processes of a deployment: what `here` publishes, `there` hears. May be one object."""

    here: LiveUpdates
    there: LiveUpdates


Factory = Callable[[], AbstractAsyncContextManager[Replicas]]


@asynccontextmanager
async def memory() -> AsyncIterator[Replicas]:
    updates = MemoryLiveUpdates(CAPACITY)
    yield Replicas(updates, updates)


@asynccontextmanager
async def redis() -> AsyncIterator[Replicas]:
    server = shared_server()
    server.flush()
    options = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with _two_processes(options) as (here, there):
        yield Replicas(here, there)


@asynccontextmanager
async def redis_cluster() -> AsyncIterator[Replicas]:
    cluster = shared_cluster()
    cluster.flush()
    options = RedisOptions(cluster.url, cluster=True, operation_timeout_seconds=OPERATION_SECONDS)
    async with _two_processes(options) as (here, there):
        yield Replicas(here, there)


ALL: list[Factory] = [memory, redis, redis_cluster]


@asynccontextmanager
async def _two_processes(
    options: RedisOptions,
) -> AsyncIterator[tuple[RedisLiveUpdates, RedisLiveUpdates]]:
    async with open_redis(options) as first, open_redis(options) as second:
        here, there = RedisLiveUpdates(first, CAPACITY), RedisLiveUpdates(second, CAPACITY)
        async with here.running(), there.running():
            yield here, there


def photo_update(
    photo_id: str,
    status: str = "QUEUED",
    *,
    version: int = 1,
    sent: int = 0,
    total: int = 1000,
    job_id: str = "job-1",
) -> Update:
    return Update(job_id, photo_id, status, sent, total, version)


async def next_entries(listening: Listening, cursor: int) -> list[Entry]:
    """Wait until there are entries after the cursor, and return them."""
    while True:
        listening.changed.clear()
        entries = listening.log.after(cursor)
        assert entries is not None, "the log can continue from the cursor"
        if entries:
            return entries
        async with asyncio.timeout(OPERATION_SECONDS):
            await listening.changed.wait()


async def wait_for_photo(listening: Listening, update: Update) -> None:
    """Wait until the log has this state of a photo."""
    async with asyncio.timeout(OPERATION_SECONDS):
        while listening.log.find(update.key) != update:
            listening.changed.clear()
            if listening.log.find(update.key) != update:
                await listening.changed.wait()
