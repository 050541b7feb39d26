"""What the processor makes of nodes, in SQL.

Everything happens under the lock of the node's row: two processors of one node take turns, and so
do a processor and whoever deletes or supersedes the node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_common.catalogue.database import Database, SqlFamily, transaction
from sluice_common.catalogue.port import MAX_DOWNLOAD_URL_SECONDS
from sluice_common.catalogue.processing import Processing, ProcessingState, Recorded
from sluice_common.catalogue.rows import (
    announced_columns,
    node_of,
    processing_columns,
    processing_of_row,
    thumbnail_columns,
)
from sluice_common.catalogue.schema import LIVE, drives, nodes, processings, thumbnails
from sluice_common.catalogue.sql_nodes import find_row, set_sha256
from sluice_common.catalogue.sql_objects import schedule_deletion
from sluice_common.catalogue.sql_outbox import append_events
from sluice_common.events.nodes import node_processed
from sluice_common.events.port import EventRecord
from sluice_common.uploads.model import ObjectRef

_RESULT = select(processings.c.etag, processings.c.state).where(
    processings.c.node_id == bindparam("p_node")
)
_INSERT_RESULT = insert(processings)
_DROP_RESULT = delete(processings).where(processings.c.node_id == bindparam("p_node"))
_NAMES = select(thumbnails.c.bucket, thumbnails.c.object_key).where(
    thumbnails.c.node_id == bindparam("p_node")
)
_INSERT_THUMBNAILS = insert(thumbnails)
_DROP_THUMBNAILS = delete(thumbnails).where(thumbnails.c.node_id == bindparam("p_node"))
_TOUCH = (
    update(nodes)
    .where(nodes.c.node_id == bindparam("p_node"))
    .values(version=nodes.c.version + literal(1), updated_at=bindparam("p_now"))
)
_RESULTS = (
    select(processings, drives.c.drop_location)
    .join_from(processings, nodes, nodes.c.node_id == processings.c.node_id)
    .join(drives, drives.c.drive_id == nodes.c.drive_id)
    .where(
        processings.c.node_id.in_(bindparam("p_nodes", expanding=True)),
        drives.c.tenant == bindparam("p_tenant"),
        nodes.c.state == literal(LIVE),
    )
)
_THUMBNAILS = (
    select(thumbnails)
    .where(
        thumbnails.c.node_id.in_(bindparam("p_nodes", expanding=True)),
        thumbnails.c.recorded,
    )
    .order_by(thumbnails.c.node_id, thumbnails.c.size)
)


class SqlProcessing(SqlFamily):
    """The catalogue's family of what the processor finds."""

    @transaction
    async def announce_thumbnails(
        self, connection: AsyncConnection, node_id: str, objects: Sequence[ObjectRef]
    ) -> bool:
        row = await find_row(connection, node_id, lock=True)
        if row is None or row.state != LIVE:
            return False
        known = await _names(connection, node_id)
        new = [announced_columns(node_id, ref) for ref in objects if ref not in known]
        if new:
            await connection.execute(_INSERT_THUMBNAILS, new)
        return True

    @transaction
    async def record_processed(
        self,
        connection: AsyncConnection,
        tenant: str,
        node_id: str,
        processing: Processing,
        *,
        sha256: bytes | None = None,
        trace_parent: str = "",
    ) -> Recorded:
        row = await find_row(connection, node_id, lock=True)
        if row is None or row.tenant != tenant:
            return Recorded.GONE
        if row.state != LIVE:
            # Nothing is left to find here, unless a release that knows no thumbnails ended the
            # node.
            await bury_processing(self._db, connection, node_id)
            return Recorded.GONE
        before = (await connection.execute(_RESULT, {"p_node": node_id})).one_or_none()
        if before is not None and not _replaces(processing, before):
            return Recorded.REPEATED
        now = self._db.clock()
        events: list[EventRecord] = []
        if sha256 is not None and row.sha256 is None:
            events.append(await set_sha256(connection, node_id, sha256, now))
        done = replace(processing, processed_at=now)
        await self._replace(
            connection, node_id, done, first=before is None, drop_location=row.drop_location
        )
        await connection.execute(_TOUCH, {"p_node": node_id, "p_now": now})
        # Every event is one version; the row is locked.
        node = replace(node_of(row), version=row.version + len(events) + 1, updated_at=now)
        events.append(node_processed(node, done, occurred_at=now, trace_parent=trace_parent))
        await append_events(connection, events)
        return Recorded.RECORDED

    async def processing_of(self, tenant: str, node_ids: Sequence[str]) -> Mapping[str, Processing]:
        if not node_ids:
            return {}
        parameters = {"p_nodes": list(node_ids)}
        async with self._db.read() as connection:
            results = await connection.execute(_RESULTS, {**parameters, "p_tenant": tenant})
            rows = results.all()
            if not rows:
                return {}
            pictures: defaultdict[str, list[Row[Any]]] = defaultdict(list)
            for picture in (await connection.execute(_THUMBNAILS, parameters)).all():
                pictures[picture.node_id].append(picture)
        return {row.node_id: processing_of_row(row, pictures[row.node_id]) for row in rows}

    async def _replace(
        self,
        connection: AsyncConnection,
        node_id: str,
        processing: Processing,
        *,
        first: bool,
        drop_location: bool,
    ) -> None:
        """Put a result, and its thumbnails, in the place of the one before, if there is one."""
        old = await _names(connection, node_id)
        if old:
            await connection.execute(_DROP_THUMBNAILS, {"p_node": node_id})
        if not first:
            await connection.execute(_DROP_RESULT, {"p_node": node_id})
        columns = processing_columns(processing, drop_location=drop_location)
        await connection.execute(_INSERT_RESULT, {"node_id": node_id, **columns})
        if processing.thumbnails:
            rows = [thumbnail_columns(node_id, one) for one in processing.thumbnails]
            await connection.execute(_INSERT_THUMBNAILS, rows)
        named = {thumbnail.object for thumbnail in processing.thumbnails}
        await _doom(self._db, connection, [ref for ref in old if ref not in named])


async def bury_processing(db: Database, connection: AsyncConnection, node_id: str) -> None:
    """A node ends: what was found in it is forgotten, its thumbnails are put up for deletion."""
    old = await _names(connection, node_id)
    if old:
        await connection.execute(_DROP_THUMBNAILS, {"p_node": node_id})
    await connection.execute(_DROP_RESULT, {"p_node": node_id})
    await _doom(db, connection, old)


def _replaces(processing: Processing, before: Row[Any]) -> bool:
    """Another content's result does; so does a success the failure before it (a retry)."""
    if before.etag != processing.etag:
        return True
    return before.state == ProcessingState.FAILED and processing.state is ProcessingState.PROCESSED


async def _names(connection: AsyncConnection, node_id: str) -> list[ObjectRef]:
    rows = (await connection.execute(_NAMES, {"p_node": node_id})).all()
    return [ObjectRef(row.bucket, row.object_key) for row in rows]


async def _doom(db: Database, connection: AsyncConnection, refs: Sequence[ObjectRef]) -> None:
    """Rule 26, as for the object of a node: URLs that were signed go on working."""
    if not refs:
        return
    not_before = await db.now(connection) + MAX_DOWNLOAD_URL_SECONDS
    for ref in refs:
        await schedule_deletion(connection, ref, not_before)
