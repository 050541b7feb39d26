"""Reads of the catalogue for operators, across tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BindParameter, bindparam, case, func, literal, select, union_all

from sluice_backends.sql.database import SqlFamily
from sluice_backends.sql.rows import event_of
from sluice_backends.sql.schema import (
    LIVE,
    drives,
    nodes,
    object_deletions,
    object_intents,
    outbox,
    photos,
    processings,
    thumbnails,
)
from sluice_core.ports.inspection import (
    InspectedNode,
    InspectedOutboxRow,
    NodeState,
    OutboxCounts,
    Reference,
)
from sluice_core.ports.outbox import OutboxRow
from sluice_core.uploads.model import ObjectRef

_NODE = (
    select(
        nodes,
        drives.c.tenant,
        drives.c.name.label("drive"),
        processings.c.state.label("processing"),
        processings.c.reason.label("processing_reason"),
    )
    .join_from(nodes, drives, nodes.c.drive_id == drives.c.drive_id)
    .join(processings, processings.c.node_id == nodes.c.node_id, isouter=True)
    .where(nodes.c.node_id == bindparam("p_node"))
)
_OUTBOX_OF = (
    select(outbox)
    .where(outbox.c.event_key == bindparam("p_key"))
    .order_by(outbox.c.row_id)
    .limit(bindparam("p_limit"))
)
_COUNT = select(
    func.count().label("row_count"),
    # Not the sum of the column itself, which has the type of the column.
    func.coalesce(func.sum(case((outbox.c.withheld == literal(True), 1), else_=0)), 0).label(
        "withheld"
    ),
).select_from(outbox)
_KEYS: Final[BindParameter[Any]] = bindparam("p_keys", expanding=True)
# One statement, so that one snapshot shows an object that passes from one reference to another.
_REFERENCES = union_all(
    select(nodes.c.bucket, nodes.c.object_key, literal(Reference.NODE).label("reference")).where(
        nodes.c.object_key.in_(_KEYS), nodes.c.state == literal(LIVE)
    ),
    select(thumbnails.c.bucket, thumbnails.c.object_key, literal(Reference.THUMBNAIL))
    .join(nodes, nodes.c.node_id == thumbnails.c.node_id)
    .where(thumbnails.c.object_key.in_(_KEYS), nodes.c.state == literal(LIVE)),
    # By the node id, which has an index, and which is the last segment of the key.
    select(photos.c.bucket, photos.c.object_key, literal(Reference.PHOTO)).where(
        photos.c.node_id.in_(bindparam("p_nodes", expanding=True)),
        photos.c.object_key.in_(_KEYS),
        photos.c.open_updated_at.is_not(None),
    ),
    select(object_intents.c.bucket, object_intents.c.object_key, literal(Reference.INTENT)).where(
        object_intents.c.object_key.in_(_KEYS)
    ),
    # Without an index, but the table is as small as the deletions of an hour.
    select(
        object_deletions.c.bucket, object_deletions.c.object_key, literal(Reference.DELETION)
    ).where(object_deletions.c.object_key.in_(_KEYS)),
)
_PRECEDENCE = {reference.value: rank for rank, reference in enumerate(Reference)}


class SqlInspection(SqlFamily):
    """The catalogue's `InspectionCatalogue`."""

    async def inspect_node(self, node_id: str) -> InspectedNode | None:
        async with self._db.read() as connection:
            row = (await connection.execute(_NODE, {"p_node": node_id})).one_or_none()
        if row is None:
            return None
        return InspectedNode(
            node_id=row.node_id,
            upload_id=row.upload_id,
            tenant=row.tenant,
            drive=row.drive,
            path=row.path,
            state=NodeState(row.state),
            size=row.size,
            crc32c=row.crc32c,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            processing=row.processing or "",
            processing_reason=row.processing_reason or "",
        )

    async def outbox_of(self, key: str, limit: int) -> Sequence[InspectedOutboxRow]:
        async with self._db.read() as connection:
            rows = (await connection.execute(_OUTBOX_OF, {"p_key": key, "p_limit": limit})).all()
        return [
            InspectedOutboxRow(OutboxRow(row.row_id, event_of(row)), bool(row.withheld))
            for row in rows
        ]

    async def count_outbox(self) -> OutboxCounts:
        async with self._db.read() as connection:
            row = (await connection.execute(_COUNT)).one()
        return OutboxCounts(int(row.row_count), int(row.withheld))

    async def references(self, refs: Sequence[ObjectRef]) -> Mapping[ObjectRef, Reference]:
        if not refs:
            return {}
        parameters = {
            "p_keys": sorted({ref.key for ref in refs}),
            "p_nodes": sorted({ref.key.rpartition("/")[2] for ref in refs}),
        }
        async with self._db.read() as connection:
            rows = (await connection.execute(_REFERENCES, parameters)).all()
        known: dict[ObjectRef, Reference] = {}
        for row in sorted(rows, key=lambda row: -_PRECEDENCE[row.reference]):
            known[ObjectRef(row.bucket, row.object_key)] = Reference(row.reference)
        wanted = set(refs)
        return {ref: reference for ref, reference in known.items() if ref in wanted}
