"""Work queue on Redis Streams, shared by all processes of a deployment (rules 11 and 15)."""

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

_SCAN_SECONDS: Final = 1.0
_FULL_POLL_SECONDS: Final = 0.1
_AFTER_FAILURE_SECONDS: Final = 0.5
_MIN_WAIT_SECONDS: Final = 0.05
"""Minimum wait: a fetch takes time, also for a worker that does not wait."""
_MAX_FETCH: Final = 32
_CLOSE_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class RedisQueue:
    """`WorkQueue` on Redis; opened with `open_redis_queue`.

    A tenant's items are in one shard. Fairness between tenants is kept within a shard by its
    scripts, and across shards by fetching from them in turn.

    Workers do not block on Redis. One task per process fetches for all of them, at most as many
    items as workers wait. It is woken by messages on a channel and polls every second.

    Args:
        lease_seconds: time that a worker holds an item without a heartbeat (rule 15).
        max_items: limit of waiting items of one kind in one shard; `put` waits beyond it.
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
        # In the order of service.
        self._lanes: OrderedDict[str, Lane] = OrderedDict((lane.name, lane) for lane in lanes)
        self._lanes_by_shard = {
            (n // len(WorkKind), lane.kind): lane for n, lane in enumerate(lanes)
        }
        self._signalled: set[str] = set(self._lanes)
        self._due: dict[str, float] = {}
        self._next_scan_at = 0.0
        self._waiting = WaitingConsumers()
        self._wake = asyncio.Event()
        self._in_use = asyncio.Event()
        """Set once a worker takes, or at close. Most processes only put."""
        self._closed = asyncio.Event()

    # -- the port

    async def put(self, item: WorkItem) -> None:
        lane = self._lane_of(item)
        while True:
            if await lane.put(item):
                self._signal(lane.name)
                return
            # Many processes free room, and none of them knows the waiting ones: poll.
            await asyncio.sleep(_FULL_POLL_SECONDS)

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        self._in_use.set()
        self._wake.set()
        try:
            return await self._waiting.wait(kinds, consumer, max(wait_seconds, _MIN_WAIT_SECONDS))
        finally:
            if self._waiting.unclaimed:
                self._wake.set()

    async def extend(self, delivery: Delivery) -> None:
        await self._lane_of(delivery.item).extend(delivery)

    async def acknowledge(self, delivery: Delivery) -> None:
        await self._lane_of(delivery.item).acknowledge(delivery)

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        lane = self._lane_of(delivery.item)
        await lane.retry(delivery, delay_seconds)
        if delay_seconds > 0:
            self._schedule(lane.name, delay_seconds)
        else:
            self._signal(lane.name)

    async def depth(self) -> QueueDepth:
        """Return the number of waiting items and the age of the oldest; held items do not count."""
        depths = [await lane.depth() for lane in list(self._lanes.values())]
        return QueueDepth(
            sum(depth.items for depth in depths),
            max(depth.oldest_age_seconds for depth in depths),
        )

    # -- fetching for all workers of the process

    async def fetch_until_closed(self) -> None:
        """Fetch items for all workers; runs as one task per process."""
        await self._in_use.wait()
        while not self._closed.is_set():
            self._wake.clear()
            try:
                await self._return_unclaimed()
                has_fetched = await self._fetch_round()
            except SluiceError as error:
                _log.warning("queue.fetch_failed", reason=error.reason)
                await self._fail_waiting(error)
                continue
            except Exception:  # noqa: BLE001 - without this task no worker gets items
                _log.exception("queue.fetch_failed")
                await self._fail_waiting(
                    Internal("QUEUE_BROKEN", "The work queue failed; see the log.")
                )
                continue
            if not has_fetched and not self._closed.is_set():
                await wait_at_most(self._wake, self._seconds_to_next_fetch())
        await self._return_unclaimed()

    async def _fail_waiting(self, error: SluiceError) -> None:
        self._waiting.fail(error)
        self._signalled.update(self._lanes)
        await wait_at_most(self._closed, _AFTER_FAILURE_SECONDS)

    async def listen(self) -> None:
        """Receive wake-ups of lanes from all processes; runs until cancelled."""
        await self._in_use.wait()
        while True:
            try:
                await self._listen_once()
            except (SluiceError, *VENDOR_ERRORS) as error:
                # Items are found by polling meanwhile.
                _log.warning("queue.subscription_lost", error=str(error))
            await asyncio.sleep(_SCAN_SECONDS)

    def close(self) -> None:
        """Stop fetching; unclaimed items are returned."""
        self._closed.set()
        self._wake.set()
        self._in_use.set()

    async def _fetch_round(self) -> bool:
        """Fetch once from every lane that may have items; at intervals from all lanes."""
        if not self._waiting.kinds():
            return False
        loop = asyncio.get_running_loop()
        is_full_scan = loop.time() >= self._next_scan_at
        if is_full_scan:
            self._next_scan_at = loop.time() + _SCAN_SECONDS
        has_fetched = False
        for lane in list(self._lanes.values()):
            consumers = self._waiting.consumers(lane.kind, _MAX_FETCH)
            is_due = self._due.get(lane.name, float("inf")) <= loop.time()
            if consumers and (is_full_scan or is_due or lane.name in self._signalled):
                has_fetched = await self._fetch(lane, consumers) or has_fetched
        return has_fetched

    async def _fetch(self, lane: Lane, consumers: list[str]) -> bool:
        self._signalled.discard(lane.name)
        items = await lane.take(consumers)
        self._due.pop(lane.name, None)
        if items.due_seconds is not None:
            self._schedule(lane.name, items.due_seconds)
        if len(items.deliveries) == len(consumers):
            self._signalled.add(lane.name)
        if items.deliveries:
            self._lanes.move_to_end(lane.name)
        for delivery in items.deliveries:
            self._waiting.hand_over(delivery)
        return bool(items.deliveries)

    async def _return_unclaimed(self) -> None:
        """Return items that were fetched for workers that have left."""
        while (delivery := self._waiting.next_unclaimed()) is not None:
            lane = self._lane_of(delivery.item)
            await lane.undo(delivery)
            self._signalled.add(lane.name)

    async def _listen_once(self) -> None:
        async with self._clients.subscription(self._on_message) as subscription:
            subscription.request("SUBSCRIBE", keys.QUEUE_WAKE)
            await subscription.listen()

    def _on_message(self, kind: bytes, _channel: str, data: Any) -> None:
        if kind == b"message":
            self._signal(data.decode())
        else:
            # Subscribed: wake-ups of earlier items were missed.
            self._signalled.update(self._lanes)
            self._wake.set()

    def _signal(self, name: str) -> None:
        if name in self._lanes:
            self._signalled.add(name)
            self._wake.set()

    def _schedule(self, name: str, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        self._due[name] = min(due, self._due.get(name, due))
        # The fetching task may sleep until a later scan.
        self._wake.set()

    def _seconds_to_next_fetch(self) -> float:
        if not self._waiting.kinds():
            return _SCAN_SECONDS
        next_fetch = min([self._next_scan_at, *self._due.values()])
        return max(0.0, next_fetch - asyncio.get_running_loop().time())

    def _lane_of(self, item: WorkItem) -> Lane:
        return self._lanes_by_shard[keys.shard_of(item.tenant, self._shards), item.kind]


@asynccontextmanager
async def open_redis_queue(
    clients: RedisClients,
    options: RedisOptions,
    lease_seconds: float = 15.0,
    max_items: int = 100_000,
) -> AsyncIterator[RedisQueue]:
    """Yield a `RedisQueue` with its fetching and listening tasks."""
    queue = RedisQueue(clients, options, lease_seconds, max_items)
    fetching = asyncio.create_task(queue.fetch_until_closed(), name="queue.fetch")
    listening = asyncio.create_task(queue.listen(), name="queue.listen")
    try:
        yield queue
    finally:
        queue.close()
        listening.cancel()
        try:
            # Unclaimed items are returned, if Redis answers.
            await asyncio.wait([fetching, listening], timeout=_CLOSE_SECONDS)
        finally:
            fetching.cancel()
            ended = await asyncio.gather(fetching, listening, return_exceptions=True)
        for failure in ended:
            if isinstance(failure, Exception) and not isinstance(failure, SluiceError):
                raise failure
