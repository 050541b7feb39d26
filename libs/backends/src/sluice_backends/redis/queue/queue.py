"""The work queue on Redis Streams, shared by all processes of a deployment (rules 11 and 15).

A tenant's items are in one shard, and shards are served in turn, so that work is shared between
tenants within a shard (by its scripts) and across shards (by who fetches).

Workers do not block on Redis. One task of the process fetches for all of them, only as many items
as there are waiting workers, woken by a word on a channel and looking by itself every second.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.errors import VENDOR_ERRORS
from sluice_backends.redis.options import RedisOptions
from sluice_backends.redis.queue.lanes import Lane
from sluice_backends.redis.queue.waiting_consumers import WaitingConsumers
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import Internal, SluiceError
from sluice_core.ports import Delivery, QueueDepth, WorkItem, WorkKind

_LOOK_SECONDS: Final = 1.0
_ROOM_SECONDS: Final = 0.1
_AFTER_FAILURE_SECONDS: Final = 0.5
_LEAST_WAIT_SECONDS: Final = 0.05
"""A look into Redis takes a moment, also for a worker that does not want to wait."""
_FETCH_AT_MOST: Final = 32
_CLOSE_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class RedisQueue:
    """A `WorkQueue`; opened with `open_redis_queue`.

    Args:
        lease_seconds: how long a worker holds an item without a heartbeat (rule 15).
        max_items: waiting items of one kind in one shard; `put` waits beyond.
    """

    def __init__(
        self,
        clients: RedisClients,
        options: RedisOptions,
        lease_seconds: float = 15.0,
        max_items: int = 100_000,
    ) -> None:
        self._clients = clients
        self._shards = options.shards
        lanes = [
            Lane(clients, shard, kind, lease_seconds=lease_seconds, max_items=max_items)
            for shard in range(options.shards)
            for kind in WorkKind
        ]
        # In the order in which they are served next.
        self._lanes: OrderedDict[str, Lane] = OrderedDict((lane.name, lane) for lane in lanes)
        self._of_shard = {(n // len(WorkKind), lane.kind): lane for n, lane in enumerate(lanes)}
        self._hot: set[str] = set(self._lanes)
        self._due: dict[str, float] = {}
        self._look_at = 0.0
        self._takers = WaitingConsumers()
        self._wake = asyncio.Event()
        self._in_use = asyncio.Event()
        """Somebody takes, or the queue was closed. Most processes only put."""
        self._closed = asyncio.Event()

    # -- the port

    async def put(self, item: WorkItem) -> None:
        lane = self._lane_of(item)
        while True:
            if await lane.put(item):
                self._heat(lane.name)
                return
            # Many processes make room, and none of them knows who waits for it.
            await asyncio.sleep(_ROOM_SECONDS)

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        self._in_use.set()
        self._wake.set()
        try:
            return await self._takers.wait(kinds, consumer, max(wait_seconds, _LEAST_WAIT_SECONDS))
        finally:
            if self._takers.unclaimed:
                self._wake.set()

    async def extend(self, delivery: Delivery) -> None:
        await self._lane_of(delivery.item).extend(delivery)

    async def acknowledge(self, delivery: Delivery) -> None:
        await self._lane_of(delivery.item).acknowledge(delivery)

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        lane = self._lane_of(delivery.item)
        await lane.retry(delivery, delay_seconds)
        if delay_seconds > 0:
            self._expect(lane.name, delay_seconds)
        else:
            self._heat(lane.name)

    async def depth(self) -> QueueDepth:
        """Items that wait, and the age of the oldest; held ones are not counted."""
        depths = [await lane.depth() for lane in list(self._lanes.values())]
        return QueueDepth(
            sum(depth.items for depth in depths),
            max(depth.oldest_age_seconds for depth in depths),
        )

    # -- fetching for all workers of the process

    async def fetch_until_closed(self) -> None:
        """The one task that takes items out of Redis."""
        await self._in_use.wait()
        while not self._closed.is_set():
            self._wake.clear()
            try:
                await self._return_unclaimed()
                found = await self._fetch_round()
            except SluiceError as error:
                _log.warning("queue.fetch_failed", reason=error.reason)
                await self._failed(error)
                continue
            except Exception:  # noqa: BLE001 - without this task no worker gets anything any more
                _log.exception("queue.fetch_failed")
                await self._failed(Internal("QUEUE_BROKEN", "The work queue failed; see the log."))
                continue
            if not found and not self._closed.is_set():
                await wait_at_most(self._wake, self._seconds_to_look())
        await self._return_unclaimed()

    async def _failed(self, error: SluiceError) -> None:
        self._takers.fail(error)
        self._hot.update(self._lanes)
        await wait_at_most(self._closed, _AFTER_FAILURE_SECONDS)

    async def listen(self) -> None:
        """Hear which lanes have something, from whichever process put it there."""
        await self._in_use.wait()
        while True:
            try:
                await self._listen_once()
            except (SluiceError, *VENDOR_ERRORS) as error:
                # Without it, items are found by looking.
                _log.warning("queue.wake_ups_lost", error=str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Fetch no more; what was fetched for nobody goes back."""
        self._closed.set()
        self._wake.set()
        self._in_use.set()

    async def _fetch_round(self) -> bool:
        """Look once into every lane that may have something, or into all from time to time."""
        if not self._takers.kinds():
            return False
        loop = asyncio.get_running_loop()
        looks = loop.time() >= self._look_at
        if looks:
            self._look_at = loop.time() + _LOOK_SECONDS
        found = False
        for lane in list(self._lanes.values()):
            consumers = self._takers.consumers(lane.kind, _FETCH_AT_MOST)
            is_due = self._due.get(lane.name, float("inf")) <= loop.time()
            if consumers and (looks or is_due or lane.name in self._hot):
                found = await self._fetch(lane, consumers) or found
        return found

    async def _fetch(self, lane: Lane, consumers: list[str]) -> bool:
        self._hot.discard(lane.name)
        taken = await lane.take(consumers)
        self._due.pop(lane.name, None)
        if taken.due_seconds is not None:
            self._expect(lane.name, taken.due_seconds)
        if len(taken.deliveries) == len(consumers):
            self._hot.add(lane.name)
        if taken.deliveries:
            self._lanes.move_to_end(lane.name)
        for delivery in taken.deliveries:
            self._takers.hand_over(delivery)
        return bool(taken.deliveries)

    async def _return_unclaimed(self) -> None:
        """Give back what was fetched for workers that went away meanwhile."""
        while (delivery := self._takers.next_unclaimed()) is not None:
            lane = self._lane_of(delivery.item)
            await lane.give_back(delivery)
            self._hot.add(lane.name)

    async def _listen_once(self) -> None:
        async with self._clients.subscription(self._hear) as subscription:
            subscription.tell("SUBSCRIBE", keys.QUEUE_WAKE)
            await subscription.listen()

    def _hear(self, kind: bytes, _channel: str, data: Any) -> None:
        if kind == b"message":
            self._heat(data.decode())
        else:
            # Subscribed: what was put before was not heard of.
            self._hot.update(self._lanes)
            self._wake.set()

    def _heat(self, name: str) -> None:
        if name in self._lanes:
            self._hot.add(name)
            self._wake.set()

    def _expect(self, name: str, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        self._due[name] = min(due, self._due.get(name, due))
        # The fetching task sleeps until it looks next, which may be later than that.
        self._wake.set()

    def _seconds_to_look(self) -> float:
        if not self._takers.kinds():
            return _LOOK_SECONDS
        next_look = min([self._look_at, *self._due.values()])
        return max(0.0, next_look - asyncio.get_running_loop().time())

    def _lane_of(self, item: WorkItem) -> Lane:
        return self._of_shard[keys.shard_of(item.tenant, self._shards), item.kind]


@asynccontextmanager
async def open_redis_queue(
    clients: RedisClients,
    options: RedisOptions,
    lease_seconds: float = 15.0,
    max_items: int = 100_000,
) -> AsyncIterator[RedisQueue]:
    """A `RedisQueue` with the tasks that fetch and listen for it; they end with it."""
    queue = RedisQueue(clients, options, lease_seconds, max_items)
    fetching = asyncio.create_task(queue.fetch_until_closed(), name="queue.fetch")
    listening = asyncio.create_task(queue.listen(), name="queue.listen")
    try:
        yield queue
    finally:
        queue.close()
        listening.cancel()
        try:
            # What was fetched and is in nobody's hands goes back, if Redis answers.
            await asyncio.wait([fetching, listening], timeout=_CLOSE_SECONDS)
        finally:
            fetching.cancel()
            ended = await asyncio.gather(fetching, listening, return_exceptions=True)
        for failure in ended:
            if isinstance(failure, Exception) and not isinstance(failure, SluiceError):
                raise failure
