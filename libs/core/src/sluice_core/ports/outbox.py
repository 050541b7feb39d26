"""Outbox port: event rows that committed with the change that they report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from sluice_core.ports.event_publisher import EventRecord


@dataclass(frozen=True, slots=True)
class OutboxRow:
    row_id: int
    event: EventRecord


@dataclass(frozen=True, slots=True)
class OutboxPage:
    """First rows that are not withheld, in insertion order."""

    rows: tuple[OutboxRow, ...]
    withheld_keys: frozenset[str]
    """Keys of these rows that have withheld rows too; rows of these keys have to wait."""


class Outbox(Protocol):
    """Event rows, committed together with the change that they report (rule 22)."""

    async def outbox(self, limit: int) -> Sequence[OutboxRow]:
        """Return unpublished rows in insertion order, withheld ones included."""
        ...

    async def outbox_ready(self, limit: int) -> OutboxPage:
        """Return unpublished rows that are not withheld, at a cost independent of withheld ones."""
        ...

    async def withhold(self, row_ids: Sequence[int]) -> None:
        """Exclude rows from `outbox_ready` until they are published.

        The publisher refused a row of their key, and none of that key may overtake it.
        """
        ...

    async def withheld_after(self, row_id: int, limit: int) -> Sequence[tuple[int, str]]:
        """Return (row id, key) of withheld rows after this row, in insertion order."""
        ...

    async def withheld_of(self, keys: Collection[str], limit: int) -> Sequence[OutboxRow]:
        """Return the withheld rows of these keys in insertion order."""
        ...

    async def count_withheld(self) -> int: ...

    async def outbox_published(self, row_ids: Sequence[int]) -> None: ...
