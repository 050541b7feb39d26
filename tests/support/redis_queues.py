"""Two work queues on one Redis, called as if their callers were in two processes."""

from __future__ import annotations

from itertools import cycle

from sluice_common.coordination.ports import Delivery, QueueDepth, WorkItem, WorkKind, WorkQueue


class TakingTurns:
    """A `WorkQueue` over several: each call goes to the next of them."""

    def __init__(self, *queues: WorkQueue) -> None:
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
