"""Work queues of the contract. Add an adapter by one line in ALL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from sluice_backends.memory.queue import InProcessQueue
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.options import RedisOptions
from sluice_backends.redis.queue.queue import RedisQueue, open_redis_queue
from sluice_core.ports import Delivery, WorkItem, WorkKind, WorkQueue
from support import redis_queues as redis_support
from support.redis_server import OPERATION_SECONDS, shared_cluster, shared_server

LONG_SECONDS = 600.0
"""Longer than any test takes, on a machine as busy as may be."""
QUICK_LEASE_SECONDS = 0.3
"""Over at once, for what is never held on to."""
MAX_ITEMS = 50

Factory = Callable[[float], AbstractAsyncContextManager[WorkQueue]]
"""Opens a queue with leases of so many seconds."""


@asynccontextmanager
async def in_process(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    yield InProcessQueue(lease_seconds=lease_seconds, max_items=MAX_ITEMS)


@asynccontextmanager
async def redis(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    server = shared_server()
    server.flush()
    async with redis_queue(RedisOptions(server.url, shards=4), lease_seconds) as queue:
        yield queue


@asynccontextmanager
async def redis_cluster(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    cluster = shared_cluster()
    cluster.flush()
    options = RedisOptions(cluster.url, cluster=True, shards=4)
    async with redis_queue(options, lease_seconds) as queue:
        yield queue


@asynccontextmanager
async def redis_two_processes(lease_seconds: float) -> AsyncIterator[WorkQueue]:
    """Alternate calls between two queues, as between two processes.

    They share one shard: each process visits the shards at a different pace, and the order is
    exact only within a shard.
    """
    server = shared_server()
    server.flush()
    options = RedisOptions(server.url, shards=1)
    async with (
        redis_queue(options, lease_seconds) as first,
        redis_queue(options, lease_seconds) as second,
    ):
        yield redis_support.RoundRobinQueue(first, second)


@asynccontextmanager
async def redis_queue(options: RedisOptions, lease_seconds: float) -> AsyncIterator[WorkQueue]:
    options = replace(options, operation_timeout_seconds=OPERATION_SECONDS)
    async with (
        open_redis(options) as clients,
        open_redis_queue(clients, options, lease_seconds, MAX_ITEMS) as queue,
    ):
        yield queue


ALL: list[Factory] = [in_process, redis, redis_cluster, redis_two_processes]

PARTS = frozenset({WorkKind.PART})
COMPLETIONS = frozenset({WorkKind.COMPLETION})
BOTH = PARTS | COMPLETIONS


def part(number: int = 1, tenant: str = "t", upload_id: str = "n1-u") -> WorkItem:
    return WorkItem(WorkKind.PART, upload_id, tenant, number)


def completion(upload_id: str = "n1-u", tenant: str = "t") -> WorkItem:
    return WorkItem(WorkKind.COMPLETION, upload_id, tenant)


async def take(
    queue: WorkQueue, kinds: frozenset[WorkKind] = PARTS, wait_seconds: float = 20.0
) -> Delivery:
    delivery = await queue.take(kinds, "worker", wait_seconds)
    assert delivery is not None
    return delivery


async def age_delivery(queue: WorkQueue, delivery: Delivery, leases: float) -> None:
    """Simulate the passage of this many lease lengths."""
    if isinstance(queue, InProcessQueue):
        move_clock(queue, leases)
    else:
        await redis_support.age_delivery(on_redis(queue), delivery, leases * LONG_SECONDS)


async def elapse_delays(queue: WorkQueue, item: WorkItem, leases: float) -> None:
    """Simulate the end of the delay of this item."""
    if isinstance(queue, InProcessQueue):
        move_clock(queue, leases)
    else:
        await redis_support.elapse_delays(on_redis(queue), item, leases * LONG_SECONDS)


def move_clock(queue: InProcessQueue, leases: float) -> None:
    clock = queue._clock
    queue._clock = lambda: clock() + leases * LONG_SECONDS


def on_redis(queue: WorkQueue) -> RedisQueue:
    found = queue.first if isinstance(queue, redis_support.RoundRobinQueue) else queue
    assert isinstance(found, RedisQueue)
    return found


async def assert_nothing(queue: WorkQueue, wait_seconds: float = 0.05) -> None:
    assert await queue.take(BOTH, "worker", wait_seconds) is None
