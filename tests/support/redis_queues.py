"""Redis work queues for tests: calls as from several processes, and time skips."""

from __future__ import annotations

from itertools import cycle

from sluice_backends.redis.queue.queue import RedisQueue
from sluice_core.ports import Delivery, QueueDepth, WorkItem, WorkKind, WorkQueue

_GROUP = "repository"


class RoundRobinQueue:
    """A `WorkQueue` that forwards each call to the next of several queues."""

    def __init__(self, *queues: WorkQueue) -> None:
        self.first = queues[0]
        self._queues = cycle(queues)

    async def put(self, item: WorkItem) -> None:
        await next(self._queues).put(item)

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        return await next(self._queues).take(kinds, consumer, wait_seconds)

    async def extend(self, delivery: Delivery) -> None:
        await next(self._queues).extend(delivery)

    async def acknowledge(self, delivery: Delivery) -> None:
        await next(self._queues).acknowledge(delivery)

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        await next(self._queues).retry(delivery, delay_seconds)

    async def depth(self) -> QueueDepth:
        return await next(self._queues).depth()


async def age_delivery(queue: RedisQueue, delivery: Delivery, seconds: float) -> None:
    """Add `seconds` to the idle time of a delivery; no-op if it is not held."""
    stream = queue._lane_of(delivery.item).name
    entry = delivery.delivery_id.rsplit("/", 2)[1]
    execute = queue._clients.execute
    for _, holder, idle_ms, _ in await execute(stream, "XPENDING", stream, _GROUP, entry, entry, 1):
        idle_ms += int(seconds * 1000)
        await execute(stream, "XCLAIM", stream, _GROUP, holder, 0, entry, "IDLE", idle_ms, "JUSTID")


async def elapse_delays(queue: RedisQueue, item: WorkItem, seconds: float) -> None:
    """Shorten the delays in this item's lane by `seconds`."""
    later = queue._lane_of(item)._keys[3]
    for entry in await queue._clients.execute(later, "ZRANGE", later, 0, -1):
        await queue._clients.execute(later, "ZINCRBY", later, -int(seconds * 1000), entry)
