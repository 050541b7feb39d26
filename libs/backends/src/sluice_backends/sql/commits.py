"""Commits and deletions of nodes in SQL: ownership of paths (rules 19 and 26)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import (
    Row,
    bindparam,
    exists,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import Database, SqlFamily, transaction
from sluice_backends.sql.dialect import Step
from sluice_backends.sql.grants import find_drive
from sluice_backends.sql.nodes import find_row, node_not_found
from sluice_backends.sql.objects import (
    drop_intent,
    fulfil_intent,
    fulfil_intent_step,
    is_intended,
)
from sluice_backends.sql.outbox import append_events, append_steps
from sluice_backends.sql.quotas import (
    check_commit,
    commit_steps,
    drop_reservation,
    record_commit,
)
from sluice_backends.sql.rows import dump_map
from sluice_backends.sql.schema import (
    LIVE,
    drives,
    nodes,
    paths,
    quota_reservations,
    quotas,
)
from sluice_backends.sql.tombstones import lock_live, lock_path, make_tombstones, remove_live
from sluice_backends.sql.usage import TENANT_ROW
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import AlreadyExists
from sluice_core.events.nodes import DeletionReason, upload_completed
from sluice_core.events.uploads import to_record
from sluice_core.ports.catalogue import CommitOutcome, NodeCommit
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import Integrity

_HAS_QUOTA = exists().where(
    quotas.c.tenant == drives.c.tenant,
    quotas.c.drive_id.in_((literal_column(str(TENANT_ROW)), drives.c.drive_id)),
)
_HAS_ROOM = (
    select(literal_column("1"))
    .where(
        quota_reservations.c.upload_id == bindparam("p_upload"),
        quota_reservations.c.drive_id == bindparam("p_drive_id"),
        quota_reservations.c.bytes >= bindparam("p_size"),
    )
    .with_for_update(read=True)
    .exists()
)
# NULL, which the column rejects, for a deleted drive, and where the node needs room that is not
# reserved. The rows are locked in shared mode: a running deletion of the drive waits for this
# commit, or this commit for the deletion.
_OPEN_DRIVE = (
    select(drives.c.drive_id)
    .where(
        drives.c.drive_id == bindparam("p_drive_id"),
        drives.c.deleted_at.is_(None),
        or_(~_HAS_QUOTA, _HAS_ROOM),
    )
    .with_for_update(read=True)
    .scalar_subquery()
)
_NODE_VALUES = [column for column in nodes.c if column is not nodes.c.drive_id]
# INSERT SELECT instead of VALUES: in a subquery of VALUES, InnoDB reads with shared locks, even
# under READ COMMITTED. The packet would wait for reservations, which lock the quotas.
_NEW_NODE = insert(nodes).from_select(
    [nodes.c.drive_id, *_NODE_VALUES],
    select(_OPEN_DRIVE, *(bindparam(one.name, type_=one.type) for one in _NODE_VALUES)),
)
_NEW_PATH = insert(paths)
_TAKE_PATH = (
    update(paths)
    .where(paths.c.drive_id == bindparam("p_drive_id"), paths.c.path == bindparam("p_path"))
    .values(node_id=bindparam("p_node"))
)
_DRIVE_IDS = 10_000
"""Capacity of the cache of drive row ids."""


class SqlCommits(SqlFamily):
    """The catalogue's transactions that assign a path to a node or remove it.

    Both transactions lock rows in the same order: the new node (commit only), the path, the node
    that holds the path, the quotas (commit only), the reservation.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        # A drive keeps its row forever, so its id is cached across commits. Each commit checks that
        # the drive is not deleted.
        self._drive_ids: dict[tuple[str, str], int] = {}

    async def commit_node(self, commit: NodeCommit) -> CommitOutcome:
        async with self._db.deadline():
            if await self._commit_batch(commit):
                return CommitOutcome(created=True)
            return await self._commit_stepwise(commit)

    @transaction
    async def _commit_stepwise(
        self, connection: AsyncConnection, commit: NodeCommit
    ) -> CommitOutcome:
        return await self._commit(connection, commit, within_quota=True)

    @transaction
    async def adopt_object(
        self, connection: AsyncConnection, commit: NodeCommit
    ) -> CommitOutcome | None:
        # The intent of an upload precedes its object and is deleted by the transaction that creates
        # its node. Without an intent, no upload is writing this object.
        if await is_intended(connection, commit.object, commit.upload_id):
            return None
        # The object exists: refusing its node would only hide it.
        return await self._commit(connection, commit, within_quota=False)

    async def _commit_batch(self, commit: NodeCommit) -> bool:
        """Commit a new node to a free path, the common case.

        Return False, with nothing done, in any other case. An existing row of the path is an error
        here. A plain INSERT locks that row in shared mode, but this transaction then ends and the
        stepwise one starts afresh.
        """
        drive_id = self._drive_ids.get((commit.tenant, commit.drive))
        if drive_id is None:
            async with self._db.read() as connection:
                drive_id = await self._find_drive(connection, commit)
        now = self._db.clock()
        node = {
            **_node_columns(drive_id, commit, now),
            "p_drive_id": drive_id,
            "p_upload": commit.upload_id,
            "p_size": commit.size,
        }
        del node["drive_id"]
        path = {"drive_id": drive_id, "path": commit.path, "node_id": commit.node_id}
        first_event, *events = append_steps(_events(commit, "", now))
        return await self._db.commit_batch(
            [
                Step(_NEW_NODE, node),
                Step(_NEW_PATH, path),
                fulfil_intent_step(commit.upload_id, commit.object),
                # Requires the intent, which is deleted when the upload completes and when a failed
                # upload is cleaned up. A batch may be executed late, after its sender timed out.
                # The stepwise transaction then finds the cause.
                replace(first_event, if_changed=True),
                *events,
                *commit_steps(commit, drive_id),
            ]
        )

    async def _commit(
        self, connection: AsyncConnection, commit: NodeCommit, *, within_quota: bool
    ) -> CommitOutcome:
        now = self._db.clock()
        drive_id = await self._find_drive(connection, commit, share=True)
        if not await self._insert_node(connection, drive_id, commit, now):
            await _settle_replay(connection, commit)
            await drop_reservation(connection, commit.upload_id, drive_id)
            return CommitOutcome(created=False)
        holder = await self._lock_path(connection, drive_id, commit)
        if holder is not None and commit.if_absent:
            raise AlreadyExists(
                "PATH_EXISTS",
                "The path has a node, and the upload requires a free path; use another path.",
                field="path",
                metadata={"node_id": holder.node_id},
            )
        if within_quota:
            replaced_bytes = None if holder is None else holder.size
            await check_commit(connection, commit, drive_id, replaced_bytes)
        superseded_id = "" if holder is None else holder.node_id
        events = _events(commit, superseded_id, now)
        if holder is not None:
            await connection.execute(
                _TAKE_PATH,
                {"p_drive_id": drive_id, "p_path": commit.path, "p_node": commit.node_id},
            )
            events += await make_tombstones(
                self._db, connection, [holder], DeletionReason.SUPERSEDED, now
            )
        await fulfil_intent(connection, commit.upload_id, commit.object)
        await record_commit(connection, commit, drive_id)
        await append_events(connection, events)
        return CommitOutcome(created=True, superseded_node_id=superseded_id)

    @transaction
    async def delete_node(
        self,
        connection: AsyncConnection,
        tenant: str,
        node_id: str,
        *,
        only_tombstone: bool = False,
        audit: AuditEntry | None = None,
    ) -> None:
        found = await find_row(connection, node_id)
        if found is None or found.tenant != tenant:
            raise node_not_found()
        live = await lock_live(self._db, connection, [found])
        if not live:
            return
        if only_tombstone:
            raise node_not_found()
        await remove_live(self._db, connection, live)
        await append_entries(self._db, connection, audit)

    async def _find_drive(
        self, connection: AsyncConnection, commit: NodeCommit, *, share: bool = False
    ) -> int:
        """Return the row id of the commit's drive and cache it."""
        key = (commit.tenant, commit.drive)
        self._drive_ids.pop(key, None)  # it may be that of a deleted drive
        drive_id = int((await find_drive(connection, *key, share=share)).drive_id)
        if len(self._drive_ids) >= _DRIVE_IDS:
            self._drive_ids.clear()
        self._drive_ids[key] = drive_id
        return drive_id

    async def _insert_node(
        self, connection: AsyncConnection, drive_id: int, commit: NodeCommit, now: float
    ) -> bool:
        """Insert the node unless its id was committed before; tombstones count (rule 19)."""
        return await self._db.dialect.insert_if_absent(
            connection, nodes, _node_columns(drive_id, commit, now)
        )

    async def _lock_path(
        self, connection: AsyncConnection, drive_id: int, commit: NodeCommit
    ) -> Row[Any] | None:
        """Insert or lock the path's row; return the node that holds the path, None when free."""
        await connection.execute(
            self._db.dialect.insert_or_lock(paths),
            {"drive_id": drive_id, "path": commit.path, "node_id": commit.node_id},
        )
        holder_id = await lock_path(connection, drive_id, commit.path)
        assert holder_id is not None, "its row was inserted or locked"
        # The node is new in this transaction, so a path row that names it is new, too.
        if holder_id == commit.node_id:
            return None
        return await find_row(connection, holder_id, lock=True)


def _node_columns(drive_id: int, commit: NodeCommit, now: float) -> dict[str, Any]:
    owed = commit.sha256 is None and commit.integrity is Integrity.SHA256_ASYNC
    return {
        "node_id": commit.node_id,
        "drive_id": drive_id,
        "path": commit.path,
        "upload_id": commit.upload_id,
        "state": LIVE,
        "size": commit.size,
        "content_type": commit.content_type,
        "crc32c": commit.crc32c,
        "sha256": commit.sha256,
        "sha256_owed_since": now if owed else None,
        "metadata": dump_map(commit.metadata),
        "bucket": commit.object.bucket,
        "object_key": commit.object.key,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }


def _events(commit: NodeCommit, superseded_id: str, now: float) -> list[EventRecord]:
    """Return the events of a commit: unpublished ones of the ledger, then its own."""
    return [
        *(to_record(event) for event in commit.ledger_events),
        upload_completed(commit, superseded_node_id=superseded_id, occurred_at=now),
    ]


async def _settle_replay(connection: AsyncConnection, commit: NodeCommit) -> None:
    """Drop the intent of a node that was committed before, unless the node is a tombstone.

    The intent of a tombstone stays, so that the sweeper deletes what a late worker stored.
    """
    row = await find_row(connection, commit.node_id)
    if row is not None and row.state == LIVE:
        await drop_intent(connection, commit.upload_id, commit.object)
