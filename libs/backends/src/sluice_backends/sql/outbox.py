"""The outbox in SQL: committed events that are not yet published (rule 22)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.dialect import Step
from sluice_backends.sql.rows import event_columns, event_of
from sluice_backends.sql.schema import outbox
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.ports.outbox import OutboxPage, OutboxRow

_APPEND = insert(outbox)
# Always read from the beginning of the table, never "ids above the last one seen": an id is
# assigned at insert, so a transaction that commits late has a lower one (rule 22). The ids of one
# node are still in order: the next event's writer needs a row (the node's or its path's) that the
# previous transaction had locked until its commit.
# No FOR UPDATE SKIP LOCKED: two relays that skip each other's rows would publish a node's second
# event before its first. Instead one relay holds a lease and reads without locks.
_PENDING = select(outbox).order_by(outbox.c.row_id).limit(bindparam("p_limit"))
# The same for publishable events. The index skips withheld rows, however many there are.
_READY = (
    select(outbox)
    .where(outbox.c.withheld == literal(False))
    .order_by(outbox.c.row_id)
    .limit(bindparam("p_limit"))
)
_WITHHELD_KEYS = (
    select(outbox.c.event_key)
    .where(
        outbox.c.event_key.in_(bindparam("p_keys", expanding=True)),
        outbox.c.withheld == literal(True),
    )
    .distinct()
)
_WITHHOLD = (
    update(outbox)
    .where(outbox.c.row_id.in_(bindparam("p_row_ids", expanding=True)))
    .values(withheld=True)
)
_WITHHELD_AFTER = (
    select(outbox.c.row_id, outbox.c.event_key)
    .where(outbox.c.withheld == literal(True), outbox.c.row_id > bindparam("p_after"))
    .order_by(outbox.c.row_id)
    .limit(bindparam("p_limit"))
)
_WITHHELD_OF = (
    select(outbox)
    .where(
        outbox.c.event_key.in_(bindparam("p_keys", expanding=True)),
        outbox.c.withheld == literal(True),
    )
    .order_by(outbox.c.row_id)
    .limit(bindparam("p_limit"))
)
_COUNT_WITHHELD = select(func.count()).select_from(outbox).where(outbox.c.withheld == literal(True))
_PUBLISHED = delete(outbox).where(outbox.c.row_id.in_(bindparam("p_row_ids", expanding=True)))


class SqlOutbox(SqlFamily):
    """The catalogue's family of outbox queries."""

    async def outbox(self, limit: int) -> Sequence[OutboxRow]:
        async with self._db.read() as connection:
            rows = (await connection.execute(_PENDING, {"p_limit": limit})).all()
        return [OutboxRow(row.row_id, event_of(row)) for row in rows]

    async def outbox_ready(self, limit: int) -> OutboxPage:
        async with self._db.read() as connection:
            rows = (await connection.execute(_READY, {"p_limit": limit})).all()
            keys = {row.event_key for row in rows}
            # A new row of a withheld key waits behind the older ones.
            withheld = (
                (await connection.execute(_WITHHELD_KEYS, {"p_keys": sorted(keys)})).scalars().all()
                if keys
                else ()
            )
        return OutboxPage(
            tuple(OutboxRow(row.row_id, event_of(row)) for row in rows), frozenset(withheld)
        )

    async def withhold(self, row_ids: Sequence[int]) -> None:
        if row_ids:
            await self._withhold(row_ids)

    @transaction
    async def _withhold(self, connection: AsyncConnection, row_ids: Sequence[int]) -> None:
        await connection.execute(_WITHHOLD, {"p_row_ids": sorted(row_ids)})

    async def withheld_after(self, row_id: int, limit: int) -> Sequence[tuple[int, str]]:
        async with self._db.read() as connection:
            parameters = {"p_after": row_id, "p_limit": limit}
            rows = (await connection.execute(_WITHHELD_AFTER, parameters)).all()
        return [(row.row_id, row.event_key) for row in rows]

    async def withheld_of(self, keys: Collection[str], limit: int) -> Sequence[OutboxRow]:
        if not keys:
            return ()
        async with self._db.read() as connection:
            parameters = {"p_keys": sorted(keys), "p_limit": limit}
            rows = (await connection.execute(_WITHHELD_OF, parameters)).all()
        return [OutboxRow(row.row_id, event_of(row)) for row in rows]

    async def count_withheld(self) -> int:
        async with self._db.read() as connection:
            return int((await connection.execute(_COUNT_WITHHELD)).scalar_one())

    async def outbox_published(self, row_ids: Sequence[int]) -> None:
        if row_ids:
            await self._drop(row_ids)

    @transaction
    async def _drop(self, connection: AsyncConnection, row_ids: Sequence[int]) -> None:
        await connection.execute(_PUBLISHED, {"p_row_ids": sorted(row_ids)})


def append_steps(events: Sequence[EventRecord]) -> list[Step]:
    """Return batch steps that append these events in order."""
    return [Step(_APPEND, event_columns(event)) for event in events]


async def append_events(connection: AsyncConnection, events: Sequence[EventRecord]) -> None:
    """Append events in order, in the transaction that makes the change."""
    if events:
        await connection.execute(_APPEND, [event_columns(event) for event in events])
