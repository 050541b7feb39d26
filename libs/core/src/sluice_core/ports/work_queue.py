"""The work queue: hints for workers that something is ready."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class WorkKind(StrEnum):
    PART = "PART"
    COMPLETION = "COMPLETION"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A hint that something is ready; the ledger is the truth (rule 15)."""

    kind: WorkKind
    upload_id: str
    tenant: str
    part_number: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One item in a worker's hands until it is acknowledged or its lease ends."""

    item: WorkItem
    delivery_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    items: int
    oldest_age_seconds: float


class WorkQueue(Protocol):
    """At least once, shared fairly between tenants. Items are hints: losing one costs time only."""

    async def put(self, item: WorkItem) -> None:
        """Add an item; one that is already waiting is not added twice. Waits while full."""
        ...

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        """The next item of these kinds, or one whose holder lost its lease; None after the wait."""
        ...

    async def extend(self, delivery: Delivery) -> None:
        """Heartbeat: the lease starts anew. A lost delivery is no error."""
        ...

    async def acknowledge(self, delivery: Delivery) -> None:
        """Done, or no longer true."""
        ...

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        """Give it back, to be delivered again after the delay."""
        ...

    async def depth(self) -> QueueDepth: ...
