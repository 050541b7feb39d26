"""Work queue port: hints to workers that work is ready."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class WorkKind(StrEnum):
    PART = "PART"
    COMPLETION = "COMPLETION"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Hint that work is ready; the ledger is authoritative (rule 15)."""

    kind: WorkKind
    upload_id: str
    tenant: str
    part_number: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """Item leased to a worker until it is acknowledged or the lease ends."""

    item: WorkItem
    delivery_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    items: int
    oldest_age_seconds: float


class WorkQueue(Protocol):
    """Queue with at-least-once delivery, fair between tenants.

    Items are hints: a lost one only delays the work.
    """

    async def put(self, item: WorkItem) -> None:
        """Add an item unless it is queued already; wait while the queue is full."""
        ...

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        """Return the next item of these kinds, or one whose lease ended; None after the wait."""
        ...

    async def extend(self, delivery: Delivery) -> None:
        """Renew the lease (heartbeat). No-op for a lost delivery."""
        ...

    async def acknowledge(self, delivery: Delivery) -> None:
        """Remove an item that is done or obsolete."""
        ...

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        """Return the item to the queue for redelivery after the delay."""
        ...

    async def depth(self) -> QueueDepth: ...
