"""The outbox in SQL: facts that were committed and are not yet published (rule 22)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_common.catalogue.database import SqlFamily, transaction
from sluice_common.catalogue.dialect import Step
from sluice_common.catalogue.port import OutboxRow
from sluice_common.catalogue.rows import event_columns, event_of
from sluice_common.catalogue.schema import outbox
from sluice_common.events.port import EventRecord

_APPEND = insert(outbox)
# Whatever is in the table, from its beginning. Never "ids above the last one seen": an id is
# given when a row is inserted, so a transaction that commits late has a lower one (rule 22). For
# one node ids are in order all the same: who writes its next event needs a row (its own or its
# path's) that the transaction before had locked until it committed.
# No FOR UPDATE SKIP LOCKED: two relays that pass each other's rows by would publish a node's
# second event before its first. One relay holds a lease instead, and reads without locking.
_PENDING = select(outbox).order_by(outbox.c.row_id).limit(bindparam("p_limit"))
_PUBLISHED = delete(outbox).where(outbox.c.row_id.in_(bindparam("p_row_ids", expanding=True)))


class SqlOutbox(SqlFamily):
    """The catalogue's family of events."""

    async def outbox(self, limit: int) -> Sequence[OutboxRow]:
        async with self._db.read() as connection:
            rows = (await connection.execute(_PENDING, {"p_limit": limit})).all()
        return [OutboxRow(row.row_id, event_of(row)) for row in rows]

    async def outbox_published(self, row_ids: Sequence[int]) -> None:
        if row_ids:
            await self._drop(row_ids)

    @transaction
    async def _drop(self, connection: AsyncConnection, row_ids: Sequence[int]) -> None:
        await connection.execute(_PUBLISHED, {"p_row_ids": sorted(row_ids)})


def appending(events: Sequence[EventRecord]) -> list[Step]:
    """What adds rows, in this order, to a transaction that is made at once."""
    return [Step(_APPEND, event_columns(event)) for event in events]


async def append_events(connection: AsyncConnection, events: Sequence[EventRecord]) -> None:
    """Add rows, in this order, to the transaction of whoever makes them true."""
    if events:
        await connection.execute(_APPEND, [event_columns(event) for event in events])
