"""In-memory work queue of one process. After a crash the sweeper re-issues the ledger's work."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from sluice_core.ports import Delivery, QueueDepth, WorkItem, WorkKind

_POLL_SECONDS = 1.0


@dataclass(slots=True)
class _Waiting:
    """Queued item, the time it was queued, and the number of earlier deliveries."""

    item: WorkItem
    since: float
    attempt: int


@dataclass(slots=True)
class _Held:
    """Item leased to a worker."""

    item: WorkItem
    attempt: int
    lease_ends: float


class _FairQueue:
    """Ready items of one kind, round-robin between tenants (rule 11)."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    def add(self, waiting: _Waiting) -> None:
        self._tenants.setdefault(waiting.item.tenant, deque()).append(waiting)

    def peek(self) -> _Waiting | None:
        for queue in self._tenants.values():
            return queue[0]
        return None

    def pop(self) -> _Waiting:
        tenant, queue = next(iter(self._tenants.items()))
        waiting = queue.popleft()
        if queue:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
        return waiting


class InProcessQueue:
    """`WorkQueue` for the tasks of one event loop.

    An item is waiting (ready, or delayed by `retry`) or held. Putting a waiting item is a no-op,
    even for its delay. Putting a held item adds it, because new work may have become ready since
    its holder read the ledger.

    Only waiting items count against the bound, so workers always make room by taking. A worker
    that puts an item while it holds one should use a deadline.

    Args:
        lease_seconds: how long a worker holds an item without a heartbeat (rule 15).
        max_items: bound of waiting items, beyond which `put` waits.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        lease_seconds: float = 15.0,
        max_items: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease_seconds = lease_seconds
        self._max_items = max_items
        self._clock = clock
        self._numbers = itertools.count(1)
        self._waiting: dict[WorkItem, _Waiting] = {}  # in order of their start of waiting
        self._ready = {kind: _FairQueue() for kind in WorkKind}
        self._delayed: list[tuple[float, int, _Waiting]] = []
        self._held: dict[str, _Held] = {}
        self._leases: list[tuple[float, str]] = []  # may contain extended or ended leases
        self._consumers: dict[asyncio.Future[None], frozenset[WorkKind]] = {}
        self._producers: dict[asyncio.Future[None], None] = {}  # first come, first served

    async def put(self, item: WorkItem) -> None:
        while item not in self._waiting and len(self._waiting) >= self._max_items:
            await self._wait_for_room()
        if item in self._waiting and len(self._waiting) < self._max_items:
            self._wake_producer()  # pass the wake-up on: this item needs no room
        self._add(item, attempt=0)

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            self._promote()
            delivery = self._next(kinds)
            if delivery is not None:
                return delivery
            left = deadline - loop.time()
            if left <= 0:
                return None
            await self._wait_for_item(kinds, min(left, self._seconds_to_next_change()))

    async def extend(self, delivery: Delivery) -> None:
        held = self._held.get(delivery.delivery_id)
        if held is not None:
            self._lease(delivery.delivery_id, held)

    async def acknowledge(self, delivery: Delivery) -> None:
        self._held.pop(delivery.delivery_id, None)

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        held = self._held.pop(delivery.delivery_id, None)
        if held is not None:
            self._add(held.item, held.attempt, delay_seconds)

    async def depth(self) -> QueueDepth:
        """Return the number of waiting items and the age of the oldest, without held ones."""
        oldest = next(iter(self._waiting.values()), None)
        age = 0.0 if oldest is None else max(0.0, self._clock() - oldest.since)
        return QueueDepth(len(self._waiting), age)

    # -- from waiting to held and back

    def _add(self, item: WorkItem, attempt: int, delay_seconds: float = 0.0) -> None:
        known = self._waiting.get(item)
        if known is not None:
            known.attempt = max(known.attempt, attempt)
            return
        now = self._clock()
        waiting = self._waiting[item] = _Waiting(item, now, attempt)
        if delay_seconds > 0:
            heapq.heappush(self._delayed, (now + delay_seconds, next(self._numbers), waiting))
        else:
            self._ready[item.kind].add(waiting)
        # A delayed item wakes a consumer too: its sleep must not exceed the delay.
        self._wake_consumer(item.kind)

    def _next(self, kinds: frozenset[WorkKind]) -> Delivery | None:
        """Return the next item of its kind; among several kinds the one that waited longest."""
        heads = [(head.since, kind) for kind in kinds if (head := self._ready[kind].peek())]
        if not heads:
            return None
        _, kind = min(heads)
        waiting = self._ready[kind].pop()
        del self._waiting[waiting.item]
        self._wake_producer()
        delivery_id = str(next(self._numbers))
        held = self._held[delivery_id] = _Held(waiting.item, waiting.attempt + 1, 0.0)
        self._lease(delivery_id, held)
        return Delivery(held.item, delivery_id, held.attempt)

    def _lease(self, delivery_id: str, held: _Held) -> None:
        held.lease_ends = self._clock() + self._lease_seconds
        heapq.heappush(self._leases, (held.lease_ends, delivery_id))

    def _promote(self) -> None:
        """Make items ready whose delay or lease has ended."""
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            _, _, waiting = heapq.heappop(self._delayed)
            self._ready[waiting.item.kind].add(waiting)
            self._wake_consumer(waiting.item.kind)
        while self._leases and self._leases[0][0] <= now:
            ended, delivery_id = heapq.heappop(self._leases)
            held = self._held.get(delivery_id)
            if held is not None and held.lease_ends == ended:
                del self._held[delivery_id]
                self._add(held.item, held.attempt)

    def _seconds_to_next_change(self) -> float:
        """Return the time until the next delay or lease ends; bounded, because a lease that begins
        meanwhile wakes no consumer."""
        now = self._clock()
        ends = [heap[0][0] - now for heap in (self._delayed, self._leases) if heap]
        return max(0.0, min([*ends, _POLL_SECONDS]))

    # -- wake-ups: each wakes one task; a task that is cancelled passes its wake-up on

    async def _wait_for_item(self, kinds: frozenset[WorkKind], seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._consumers[wake] = kinds
        try:
            async with asyncio.timeout(seconds):
                await wake
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if wake.done() and not wake.cancelled():
                for kind in kinds:
                    self._wake_consumer(kind)
            raise
        finally:
            del self._consumers[wake]

    async def _wait_for_room(self) -> None:
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._producers[room] = None
        try:
            await room
        except asyncio.CancelledError:
            if room.done() and not room.cancelled():
                self._wake_producer()
            raise
        finally:
            del self._producers[room]

    def _wake_consumer(self, kind: WorkKind) -> None:
        for wake, kinds in self._consumers.items():
            if kind in kinds and not wake.done():
                wake.set_result(None)
                return

    def _wake_producer(self) -> None:
        for room in self._producers:
            if not room.done():
                room.set_result(None)
                return
