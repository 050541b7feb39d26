"""Lane of the work queue: the items of one kind of one shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import Script, load_script
from sluice_backends.redis.client.server import Argument
from sluice_core.ports import Delivery, QueueDepth, WorkItem, WorkKind

_EMPTY_STREAM_SECONDS: Final = 60.0
_DONE: Final = -1


@dataclass(frozen=True, slots=True)
class LaneItems:
    """Deliveries, and the time until the next delayed item is ready (None without one)."""

    deliveries: Sequence[Delivery]
    due_seconds: float | None


class Lane:
    """Scripts of one lane.

    A delivery is identified by stream entry and attempt, so that calls for a lost delivery are
    no-ops.
    """

    def __init__(
        self,
        clients: RedisClients,
        shard: int,
        kind: WorkKind,
        *,
        lease_seconds: float,
        max_items: int,
    ) -> None:
        self._clients = clients
        self._lease_ms = int(lease_seconds * 1000)
        self._max_items = max_items
        self._keys = keys.lane(shard, kind.value)
        self.kind = kind
        self._put, self._take, self._extend, self._settle, self._depth = (
            load_script(__package__, f"queue_{name}", "queue_common")
            for name in ("put", "take", "extend", "settle", "depth")
        )

    @property
    def name(self) -> str:
        """Name of the stream and of the lane in wake-ups."""
        return self._keys[0]

    async def put(self, item: WorkItem) -> bool:
        """Add an item unless it already waits; return False if the lane is full."""
        reply = await self._clients.call(
            self._put,
            self._keys,
            [item.upload_id, item.part_number, item.tenant, self._max_items],
        )
        return bool(reply)

    async def take(self, consumers: Sequence[str]) -> LaneItems:
        """Take at most one item for each consumer."""
        due_ms, entries = await self._clients.call(
            self._take,
            self._keys,
            [self._lease_ms, int(_EMPTY_STREAM_SECONDS * 1000), *consumers],
        )
        deliveries = [
            Delivery(
                WorkItem(self.kind, upload.decode(), tenant.decode(), int(part)),
                f"{self.name}/{entry.decode()}/{attempt}",
                int(attempt),
            )
            for entry, upload, part, tenant, attempt in entries
        ]
        return LaneItems(deliveries, None if due_ms < 0 else due_ms / 1000)

    async def extend(self, delivery: Delivery) -> None:
        await self._call(self._extend, delivery)

    async def acknowledge(self, delivery: Delivery) -> None:
        await self._call(self._settle, delivery, _DONE, delivery.attempt)

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        delay_ms = max(0, int(delay_seconds * 1000))
        await self._call(self._settle, delivery, delay_ms, delivery.attempt)

    async def undo(self, delivery: Delivery) -> None:
        """Return an item that no worker received; it does not count as an attempt."""
        await self._call(self._settle, delivery, 0, delivery.attempt - 1)

    async def depth(self) -> QueueDepth:
        items, age_ms = await self._clients.call(self._depth, self._keys, [])
        return QueueDepth(items, max(0, age_ms) / 1000)

    async def _call(self, script: Script, delivery: Delivery, *arguments: Argument) -> None:
        _, entry, attempt = delivery.delivery_id.rsplit("/", 2)
        await self._clients.call(script, self._keys, [entry, attempt, *arguments])
