"""Processing results of nodes in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import Database, SqlFamily, transaction
from sluice_backends.sql.nodes import find_row, lock_row
from sluice_backends.sql.objects import schedule_deletions
from sluice_backends.sql.outbox import append_events
from sluice_backends.sql.rows import (
    announced_columns,
    node_of,
    processing_columns,
    processing_of_row,
    select_nodes,
    thumbnail_columns,
)
from sluice_backends.sql.schema import LIVE, drives, nodes, processings, thumbnails
from sluice_core.catalogue.processing import (
    NodeResult,
    Processing,
    ProcessingState,
    Recorded,
)
from sluice_core.events.nodes import node_processed, node_verified
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS, Candidate
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import ObjectRef

_WITH_RESULTS = (
    select_nodes()
    .add_columns(
        processings.c.etag.label("result_etag"),
        processings.c.state.label("result_state"),
        processings.c.reason.label("result_reason"),
    )
    .outerjoin(processings, processings.c.node_id == nodes.c.node_id)
    .where(nodes.c.node_id.in_(bindparam("p_nodes", expanding=True)))
)
_INSERT_RESULT = insert(processings)
_DROP_RESULT = delete(processings).where(processings.c.node_id == bindparam("p_node"))
_THUMBNAIL_OBJECTS = select(
    thumbnails.c.node_id, thumbnails.c.bucket, thumbnails.c.object_key
).where(thumbnails.c.node_id.in_(bindparam("p_nodes", expanding=True)))
_INSERT_THUMBNAILS = insert(thumbnails)
_DROP_THUMBNAILS = delete(thumbnails).where(thumbnails.c.node_id == bindparam("p_node"))
_TOUCH = (
    update(nodes)
    .where(nodes.c.node_id == bindparam("p_node"))
    .values(version=bindparam("p_version"), updated_at=bindparam("p_now"))
)
_VERIFY = _TOUCH.values(sha256=bindparam("p_sha256"), sha256_owed_since=None)
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
    """The catalogue's family of processing results.

    Every change holds the lock of the node's row, which serializes processors of one node with each
    other and with deletion and supersession of the node.
    """

    @transaction
    async def announce_thumbnails(
        self, connection: AsyncConnection, node_id: str, objects: Sequence[ObjectRef]
    ) -> bool:
        row = await find_row(connection, node_id, lock=True)
        if row is None or row.state != LIVE:
            return False
        known = (await _thumbnail_objects(connection, [node_id])).get(node_id, [])
        new = [announced_columns(node_id, ref) for ref in objects if ref not in known]
        if new:
            await connection.execute(_INSERT_THUMBNAILS, new)
        return True

    async def candidates(self, node_ids: Sequence[str]) -> Mapping[str, Candidate]:
        if not node_ids:
            return {}
        async with self._db.read() as connection:
            cursor = await connection.execute(_WITH_RESULTS, {"p_nodes": list(node_ids)})
            rows = cursor.all()
        return {
            row.node_id: Candidate(node_of(row), row.result_etag, row.result_reason or "")
            for row in rows
            if row.state == LIVE
        }

    async def record_processed(
        self,
        tenant: str,
        node_id: str,
        processing: Processing,
        *,
        sha256: bytes | None = None,
        trace_parent: str = "",
    ) -> Recorded:
        result = NodeResult(tenant, node_id, processing, sha256, trace_parent)
        return (await self.record_all_processed([result]))[0]

    @transaction
    async def record_all_processed(
        self, connection: AsyncConnection, results: Sequence[NodeResult]
    ) -> Sequence[Recorded]:
        ids = sorted(result.node_id for result in results)
        await self._lock(connection, ids)
        cursor = await connection.execute(_WITH_RESULTS, {"p_nodes": ids})
        rows = {row.node_id: row for row in cursor.all()}
        recorded: list[Recorded] = []
        accepted: list[tuple[NodeResult, Row[Any]]] = []
        ended: list[str] = []
        for result in results:
            row = rows.get(result.node_id)
            if row is None or row.tenant != result.tenant:
                recorded.append(Recorded.GONE)
            elif row.state != LIVE:
                ended.append(result.node_id)
                recorded.append(Recorded.GONE)
            elif not _replaces(result, row):
                recorded.append(Recorded.REPEATED)
            else:
                accepted.append((result, row))
                recorded.append(Recorded.RECORDED)
        if ended:
            # A no-op, unless an older release without thumbnails ended the nodes.
            await discard_processings(self._db, connection, ended)
        if accepted:
            await self._record(connection, accepted)
        return recorded

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

    async def _lock(self, connection: AsyncConnection, node_ids: Sequence[str]) -> None:
        """Lock the rows of nodes one by one in the order of their ids.

        The order prevents deadlocks, and single locks cover no other row.
        """
        if self._db.dialect.one_writer:
            return
        for node_id in node_ids:
            await lock_row(connection, node_id)

    async def _record(
        self, connection: AsyncConnection, accepted: Sequence[tuple[NodeResult, Row[Any]]]
    ) -> None:
        """Write results, events and versions of nodes with locked rows."""
        now = self._db.clock()
        events: list[EventRecord] = []
        touched: list[dict[str, Any]] = []
        verified: list[dict[str, Any]] = []
        for result, row in accepted:
            # Every event has its own version.
            node = replace(node_of(row), version=row.version + 1, updated_at=now)
            done = replace(result.processing, processed_at=now)
            change = {"p_node": node.node_id, "p_now": now}
            if result.sha256 is not None and node.sha256 is None:
                node = replace(node, sha256=result.sha256)
                events.append(node_verified(node, result.sha256, occurred_at=now))
                node = replace(node, version=node.version + 1)
                verified.append({**change, "p_version": node.version, "p_sha256": result.sha256})
            else:
                touched.append({**change, "p_version": node.version})
            trace = result.trace_parent
            events.append(node_processed(node, done, occurred_at=now, trace_parent=trace))
        await self._replace(connection, accepted, now)
        for statement, changes in ((_TOUCH, touched), (_VERIFY, verified)):
            if changes:
                await connection.execute(statement, changes)
        await append_events(connection, events)

    async def _replace(
        self,
        connection: AsyncConnection,
        accepted: Sequence[tuple[NodeResult, Row[Any]]],
        now: float,
    ) -> None:
        """Replace earlier results and their thumbnails."""
        old = await _thumbnail_objects(connection, [result.node_id for result, _ in accepted])
        if old:
            await connection.execute(_DROP_THUMBNAILS, [{"p_node": node_id} for node_id in old])
        columns: list[dict[str, Any]] = []
        pictures: list[dict[str, Any]] = []
        unnamed: list[ObjectRef] = []
        for result, row in accepted:
            node_id, processing = result.node_id, replace(result.processing, processed_at=now)
            if row.result_etag is not None:
                await connection.execute(_DROP_RESULT, {"p_node": node_id})
            filled = processing_columns(processing, drop_location=row.drop_location)
            columns.append({"node_id": node_id, **filled})
            pictures += [thumbnail_columns(node_id, one) for one in processing.thumbnails]
            named = {thumbnail.object for thumbnail in processing.thumbnails}
            unnamed += [ref for ref in old.get(node_id, ()) if ref not in named]
        await connection.execute(_INSERT_RESULT, columns)
        if pictures:
            await connection.execute(_INSERT_THUMBNAILS, pictures)
        await _schedule_deletions(self._db, connection, unnamed)


async def discard_processings(
    db: Database, connection: AsyncConnection, node_ids: Sequence[str]
) -> None:
    """Delete the results of ended nodes and schedule the deletion of their thumbnails."""
    old = await _thumbnail_objects(connection, node_ids)
    if old:
        await connection.execute(_DROP_THUMBNAILS, [{"p_node": node_id} for node_id in old])
    await connection.execute(_DROP_RESULT, [{"p_node": node_id} for node_id in node_ids])
    await _schedule_deletions(db, connection, [ref for refs in old.values() for ref in refs])


def _replaces(result: NodeResult, row: Row[Any]) -> bool:
    """Return whether a result replaces the stored one.

    It does for other content, and a success does after a failure; a failure only on request.
    """
    processing = result.processing
    if row.result_etag != processing.etag:
        return True  # also without a stored result
    return row.result_state == ProcessingState.FAILED and (
        result.is_requested or processing.state is ProcessingState.PROCESSED
    )


async def _thumbnail_objects(
    connection: AsyncConnection, node_ids: Sequence[str]
) -> Mapping[str, list[ObjectRef]]:
    """Return announced and recorded thumbnails of the nodes that have some."""
    names: defaultdict[str, list[ObjectRef]] = defaultdict(list)
    for row in (await connection.execute(_THUMBNAIL_OBJECTS, {"p_nodes": list(node_ids)})).all():
        names[row.node_id].append(ObjectRef(row.bucket, row.object_key))
    return names


async def _schedule_deletions(
    db: Database, connection: AsyncConnection, refs: Sequence[ObjectRef]
) -> None:
    """Schedule deletions after the lifetime of signed URLs, as for nodes (rule 26)."""
    if refs:
        not_before = await db.now(connection) + MAX_DOWNLOAD_URL_SECONDS
        await schedule_deletions(connection, refs, not_before)
