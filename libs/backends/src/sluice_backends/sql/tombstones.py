"""Ends of nodes in SQL: tombstones, freed paths and what becomes of the objects (rule 26)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, bindparam, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import Database
from sluice_backends.sql.nodes import find_rows, lock_row
from sluice_backends.sql.objects import schedule_deletions
from sluice_backends.sql.outbox import append_events
from sluice_backends.sql.processing import discard_processings
from sluice_backends.sql.rows import node_of
from sluice_backends.sql.schema import DELETED, LIVE, SUPERSEDED, nodes, paths
from sluice_backends.sql.usage import record_removals
from sluice_core.events.nodes import DeletionReason, node_deleted
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS
from sluice_core.ports.event_publisher import EventRecord

_HOLDER = (
    select(paths.c.node_id)
    .where(paths.c.drive_id == bindparam("p_drive_id"), paths.c.path == bindparam("p_path"))
    .with_for_update()
)
_FREE_PATH = delete(paths).where(
    paths.c.drive_id == bindparam("p_drive_id"), paths.c.path == bindparam("p_path")
)
_MAKE_TOMBSTONE = (
    update(nodes)
    .where(nodes.c.node_id == bindparam("p_node"))
    .values(
        state=bindparam("p_state"),
        sha256_owed_since=None,
        version=nodes.c.version + literal(1),
        updated_at=bindparam("p_now"),
    )
)
_STATES = {
    DeletionReason.DELETED: DELETED,
    DeletionReason.SUPERSEDED: SUPERSEDED,
}


async def lock_path(connection: AsyncConnection, drive_id: int, path: str) -> str | None:
    """Lock the row of a path; return the node that holds the path, None when free."""
    parameters = {"p_drive_id": drive_id, "p_path": path}
    holder: str | None = (await connection.execute(_HOLDER, parameters)).scalar_one_or_none()
    return holder


async def lock_live(
    database: Database, connection: AsyncConnection, found: Sequence[Row[Any]]
) -> Sequence[Row[Any]]:
    """Lock the paths and the rows of nodes; return the rows of those that are no tombstones by now.

    One by one in the order of the node ids: the order prevents deadlocks, and single locks cover no
    other row.
    """
    if not found:
        return ()
    found = sorted(found, key=lambda row: row.node_id)
    if not database.dialect.one_writer:
        for row in found:
            await lock_path(connection, row.drive_id, row.path)
            await lock_row(connection, row.node_id)
    # Read again under the locks: a commit may have superseded a node meanwhile.
    rows = await find_rows(connection, [row.node_id for row in found])
    return [row for row in rows if row.state == LIVE]


async def remove_live(
    database: Database, connection: AsyncConnection, rows: Sequence[Row[Any]]
) -> None:
    """Delete nodes that `lock_live` returned: free their paths, schedule the end of their objects.

    The number of statements does not depend on that of the nodes.
    """
    if not rows:
        return
    await connection.execute(
        _FREE_PATH, [{"p_drive_id": row.drive_id, "p_path": row.path} for row in rows]
    )
    now = database.clock()
    events = await make_tombstones(database, connection, rows, DeletionReason.DELETED, now)
    await append_events(connection, events)


async def make_tombstones(
    database: Database,
    connection: AsyncConnection,
    rows: Sequence[Row[Any]],
    reason: DeletionReason,
    now: float,
) -> list[EventRecord]:
    """Turn live nodes into tombstones and schedule the deletion of their objects.

    Return NodeDeleted of each. The objects outlive every URL that may have been signed for them.
    The time comes from the database, so that a wrong local clock cannot shorten it.
    """
    state = _STATES[reason]
    await connection.execute(
        _MAKE_TOMBSTONE,
        [{"p_node": row.node_id, "p_state": state, "p_now": now} for row in rows],
    )
    ended = [node_of(row) for row in rows]
    not_before = await database.now(connection) + MAX_DOWNLOAD_URL_SECONDS
    await schedule_deletions(connection, [node.object for node in ended], not_before)
    await record_removals(
        connection,
        [(node.tenant, row.drive_id, node.size) for node, row in zip(ended, rows, strict=True)],
    )
    await discard_processings(database, connection, [node.node_id for node in ended])
    return [
        node_deleted(replace(node, version=node.version + 1), reason, occurred_at=now)
        for node in ended
    ]
