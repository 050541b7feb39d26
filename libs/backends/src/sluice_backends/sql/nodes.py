"""Nodes in SQL: lookup, listing and updates that do not affect paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.grants import find_drive
from sluice_backends.sql.outbox import append_events
from sluice_backends.sql.rows import dump_map, node_of, select_nodes
from sluice_backends.sql.schema import LIVE, drives, nodes, paths
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import Aborted, NotFound
from sluice_core.events.nodes import node_verified
from sluice_core.ports.catalogue import FolderPage, Node, NodePage
from sluice_core.ports.event_publisher import EventRecord

_BY_ID = select_nodes().where(nodes.c.node_id == bindparam("p_node"))
_BY_IDS = (
    select_nodes()
    .where(nodes.c.node_id.in_(bindparam("p_nodes", expanding=True)))
    .order_by(nodes.c.node_id)
)
# Separate from the joined query. FOR UPDATE cannot name tables on MariaDB, so the join would also
# lock the drive's row, and commits to one drive would deadlock.
_LOCK = select(nodes.c.node_id).where(nodes.c.node_id == bindparam("p_node")).with_for_update()
_BY_PATH = (
    select_nodes()
    .join(paths, paths.c.node_id == nodes.c.node_id)
    .where(
        drives.c.tenant == bindparam("p_tenant"),
        drives.c.name == bindparam("p_drive"),
        paths.c.drive_id == drives.c.drive_id,
        paths.c.path == bindparam("p_path"),
    )
)
_LIST = (
    select_nodes()
    .join(paths, paths.c.node_id == nodes.c.node_id)
    .where(paths.c.drive_id == bindparam("p_drive_id"), paths.c.path > bindparam("p_after"))
    .order_by(paths.c.path)
    .limit(bindparam("p_limit"))
)
# A prefix is a range of the primary key: from the prefix up to its successor.
_LIST_PREFIX = _LIST.where(
    paths.c.path >= bindparam("p_prefix"), paths.c.path < bindparam("p_beyond")
)
_NEXT_DRIVES = (
    select(drives.c.drive_id)
    .where(drives.c.drive_id > bindparam("p_after"))
    .order_by(drives.c.drive_id)
    .limit(bindparam("p_limit"))
)
# One range of the primary key for each drive. With a range of drives, all their paths would be
# read.
_IN_FOLDER = (
    select_nodes()
    .join(paths, paths.c.node_id == nodes.c.node_id)
    .where(
        paths.c.drive_id.in_(bindparam("p_drives", expanding=True)),
        paths.c.path >= bindparam("p_prefix"),
        paths.c.path < bindparam("p_beyond"),
        nodes.c.created_at < bindparam("p_before"),
    )
    .order_by(paths.c.drive_id, paths.c.path)
    .limit(bindparam("p_limit"))
)
_OWED = (
    select_nodes()
    .where(nodes.c.sha256_owed_since.is_not(None))
    .order_by(nodes.c.sha256_owed_since, nodes.c.node_id)
    .limit(bindparam("p_limit"))
    .offset(bindparam("p_offset"))
)
_SET_METADATA = (
    update(nodes)
    .where(nodes.c.node_id == bindparam("p_node"))
    .values(
        metadata=bindparam("p_metadata"),
        version=nodes.c.version + literal(1),
        updated_at=bindparam("p_now"),
    )
)
_SET_SHA256 = (
    update(nodes)
    .where(nodes.c.node_id == bindparam("p_node"))
    .values(
        sha256=bindparam("p_sha256"),
        sha256_owed_since=None,
        version=nodes.c.version + literal(1),
        updated_at=bindparam("p_now"),
    )
)


class SqlNodes(SqlFamily):
    """The catalogue's family of nodes."""

    async def get_node(self, tenant: str, node_id: str) -> Node:
        async with self._db.read() as connection:
            row = await find_row(connection, node_id)
        return node_of(_live(row, tenant))

    async def find_node(self, tenant: str, drive: str, path: str) -> Node:
        parameters = {"p_tenant": tenant, "p_drive": drive, "p_path": path}
        async with self._db.read() as connection:
            row = (await connection.execute(_BY_PATH, parameters)).one_or_none()
            if row is None:
                await find_drive(connection, tenant, drive)
        if row is None:
            raise NotFound("NODE_NOT_FOUND", "The drive has no node at this path.", field="path")
        return node_of(row)

    async def list_nodes(
        self, tenant: str, drive: str, path_prefix: str, limit: int, after: str
    ) -> NodePage:
        async with self._db.read() as connection:
            drive_row = await find_drive(connection, tenant, drive)
            parameters: dict[str, Any] = {
                "p_drive_id": drive_row.drive_id,
                "p_after": after,
                "p_limit": limit + 1,
            }
            if path_prefix:
                parameters |= {"p_prefix": path_prefix, "p_beyond": _successor(path_prefix)}
            statement = _LIST_PREFIX if path_prefix else _LIST
            rows = (await connection.execute(statement, parameters)).all()
        page = tuple(node_of(row) for row in rows[:limit])
        return NodePage(page, page[-1].path if len(rows) > limit else "")

    async def nodes_in_folder(
        self, folder: str, before: float, after_drive: int, drives: int, limit: int
    ) -> FolderPage:
        async with self._db.read() as connection:
            some = {"p_after": after_drive, "p_limit": drives}
            searched = (await connection.execute(_NEXT_DRIVES, some)).scalars().all()
            parameters = {
                "p_drives": searched,
                "p_prefix": folder,
                "p_beyond": _successor(folder),
                "p_before": before,
                "p_limit": limit,
            }
            rows = (await connection.execute(_IN_FOLDER, parameters)).all() if searched else ()
        last = searched[-1] if len(searched) == drives else 0
        return FolderPage([node_of(row) for row in rows], last)

    @transaction
    async def update_node(
        self,
        connection: AsyncConnection,
        tenant: str,
        node_id: str,
        metadata: Mapping[str, str],
        if_version: int,
        *,
        audit: AuditEntry | None = None,
    ) -> Node:
        row = _live(await find_row(connection, node_id, lock=True), tenant)
        if if_version > 0 and row.version != if_version:
            raise Aborted(
                "VERSION_CONFLICT",
                f"The node has version {row.version}, not {if_version}; read it and try again.",
                metadata={"version": str(row.version)},
            )
        await connection.execute(
            _SET_METADATA,
            {"p_node": node_id, "p_metadata": dump_map(metadata), "p_now": self._db.clock()},
        )
        await append_entries(self._db, connection, audit)
        return node_of(_live(await find_row(connection, node_id), tenant))

    async def nodes_without_sha256(self, limit: int, offset: int = 0) -> Sequence[Node]:
        async with self._db.read() as connection:
            parameters = {"p_limit": limit, "p_offset": offset}
            rows = (await connection.execute(_OWED, parameters)).all()
        return [node_of(row) for row in rows]

    @transaction
    async def record_sha256(self, connection: AsyncConnection, node_id: str, sha256: bytes) -> bool:
        now = self._db.clock()
        row = await find_row(connection, node_id, lock=True)
        if row is None or row.state != LIVE or row.sha256 is not None:
            return False
        await append_events(connection, [await set_sha256(connection, node_id, sha256, now)])
        return True


async def find_row(
    connection: AsyncConnection, node_id: str, *, lock: bool = False
) -> Row[Any] | None:
    """Return the node's row in any state, tombstones included; see `select_nodes`."""
    if lock:
        await lock_row(connection, node_id)
    return (await connection.execute(_BY_ID, {"p_node": node_id})).one_or_none()


async def find_rows(connection: AsyncConnection, node_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Return the rows of the nodes that exist, tombstones included; see `select_nodes`."""
    return (await connection.execute(_BY_IDS, {"p_nodes": list(node_ids)})).all()


async def lock_row(connection: AsyncConnection, node_id: str) -> None:
    """Lock the node's row, if it exists, until the end of the transaction."""
    await connection.execute(_LOCK, {"p_node": node_id})


async def set_sha256(
    connection: AsyncConnection, node_id: str, sha256: bytes, now: float
) -> EventRecord:
    """Set the SHA-256 of a node with a locked row; return NodeVerified for the outbox."""
    await connection.execute(_SET_SHA256, {"p_node": node_id, "p_sha256": sha256, "p_now": now})
    changed = await find_row(connection, node_id)
    assert changed is not None, "its row is locked"
    return node_verified(node_of(changed), sha256, occurred_at=now)


def node_not_found() -> NotFound:
    return NotFound("NODE_NOT_FOUND", "There is no node with this id.", field="node_id")


def _live(row: Row[Any] | None, tenant: str) -> Row[Any]:
    """Return the row. Raise `NotFound` unless it is a live node of this tenant."""
    if row is None or row.tenant != tenant or row.state != LIVE:
        raise node_not_found()
    return row


def _successor(prefix: str) -> bytes:
    """Return the smallest byte string greater than all strings with this prefix.

    UTF-8 has no byte 0xFF, so the last byte can always be incremented.
    """
    encoded = prefix.encode()
    return encoded[:-1] + bytes([encoded[-1] + 1])
