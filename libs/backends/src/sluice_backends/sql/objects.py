"""Objects in SQL: intents and scheduled deletions (rules 13, 19 and 26)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.dialect import Step
from sluice_backends.sql.schema import (
    LIVE,
    cleared_intents,
    nodes,
    object_deletions,
    object_intents,
    thumbnails,
)
from sluice_core.errors import Aborted
from sluice_core.ports.catalogue import ObjectDeletion, ObjectIntent
from sluice_core.uploads.model import ObjectRef

_IS_LIVE = select(
    or_(
        exists().where(
            nodes.c.object_key == bindparam("p_key"),
            nodes.c.bucket == bindparam("p_bucket"),
            nodes.c.state == literal(LIVE),
        ),
        exists().where(
            thumbnails.c.object_key == bindparam("p_key"),
            thumbnails.c.bucket == bindparam("p_bucket"),
            nodes.c.node_id == thumbnails.c.node_id,
            nodes.c.state == literal(LIVE),
        ),
    )
)
_REFERENCED = union_all(
    select(nodes.c.bucket, nodes.c.object_key).where(
        nodes.c.object_key.in_(bindparam("p_keys", expanding=True)),
        nodes.c.state == literal(LIVE),
    ),
    select(thumbnails.c.bucket, thumbnails.c.object_key)
    .join(nodes, nodes.c.node_id == thumbnails.c.node_id)
    .where(
        thumbnails.c.object_key.in_(bindparam("p_keys", expanding=True)),
        nodes.c.state == literal(LIVE),
    ),
)
_INTEND = insert(object_intents)
_SCHEDULE = insert(object_deletions)
_DUE = (
    select(object_deletions)
    .where(
        object_deletions.c.not_before <= bindparam("p_now"),
        ~exists().where(
            and_(
                nodes.c.object_key == object_deletions.c.object_key,
                nodes.c.bucket == object_deletions.c.bucket,
                nodes.c.state == literal(LIVE),
            )
        ),
        ~exists().where(
            and_(
                thumbnails.c.object_key == object_deletions.c.object_key,
                thumbnails.c.bucket == object_deletions.c.bucket,
                nodes.c.node_id == thumbnails.c.node_id,
                nodes.c.state == literal(LIVE),
            )
        ),
    )
    .order_by(object_deletions.c.not_before, object_deletions.c.deletion_id)
    .limit(bindparam("p_limit"))
    .offset(bindparam("p_offset"))
)
_DELETED = delete(object_deletions).where(object_deletions.c.deletion_id == bindparam("p_id"))
# An intent is identified by its upload and by its key, which contains the node id: an upload id
# that is derived from a request id may recur for another node.
_SAME_INTENT = and_(
    object_intents.c.upload_id == bindparam("p_upload"),
    object_intents.c.object_key == bindparam("p_key"),
)
_SET_MULTIPART = (
    update(object_intents).where(_SAME_INTENT).values(multipart_id=bindparam("p_multipart"))
)
_FULFIL = delete(object_intents).where(
    _SAME_INTENT,
    ~exists().where(
        cleared_intents.c.upload_id == object_intents.c.upload_id,
        cleared_intents.c.object_key == object_intents.c.object_key,
    ),
)
_CLEAR = delete(object_intents).where(_SAME_INTENT)
_KEYS_OF_UPLOAD = select(object_intents.c.object_key).where(
    object_intents.c.upload_id == bindparam("p_upload")
)
_WAS_CLEARED = (
    select(cleared_intents.c.cleared_at)
    .where(
        cleared_intents.c.upload_id == bindparam("p_upload"),
        cleared_intents.c.object_key == bindparam("p_key"),
    )
    .with_for_update()
)
_OLD_CLEARED = (
    select(cleared_intents.c.upload_id, cleared_intents.c.object_key)
    .where(cleared_intents.c.cleared_at < bindparam("p_before"))
    .order_by(cleared_intents.c.cleared_at)
    .limit(bindparam("p_limit"))
)
_PURGE_CLEARED = delete(cleared_intents).where(
    cleared_intents.c.upload_id == bindparam("p_upload"),
    cleared_intents.c.object_key == bindparam("p_key"),
)
_OF_OBJECT = and_(
    object_intents.c.object_key == bindparam("p_key"),
    object_intents.c.bucket == bindparam("p_bucket"),
)
# Not LIKE, for which `_` is a wildcard.
_IS_DIRECT = func.substr(
    object_intents.c.upload_id, literal(1), bindparam("p_length", type_=Integer)
) == bindparam("p_direct")
_INTENDED = select(exists().where(_OF_OBJECT, not_(_IS_DIRECT)))
_STALE = (
    select(object_intents)
    .where(object_intents.c.created_at < bindparam("p_before"))
    .order_by(object_intents.c.created_at, object_intents.c.upload_id, object_intents.c.object_key)
    .limit(bindparam("p_limit"))
    .offset(bindparam("p_offset"))
)


class SqlObjects(SqlFamily):
    """The catalogue's family of intents and deletions."""

    async def record_intent(self, intent: ObjectIntent) -> None:
        async with self._db.deadline():
            # With a multipart id, it is most likely a repeated first step.
            if intent.multipart_id or not await self._db.commit_batch(
                [Step(_INTEND, _columns(intent))]
            ):
                await self._record_intent(intent)

    @transaction
    async def _record_intent(self, connection: AsyncConnection, intent: ObjectIntent) -> None:
        created = await self._db.dialect.insert_if_absent(
            connection, object_intents, _columns(intent)
        )
        # A repeated first step has no multipart id. It must not overwrite the one that the second
        # step recorded, or that multipart upload would be orphaned.
        if not created and intent.multipart_id:
            key = _intent_key(intent.upload_id, intent.object)
            await connection.execute(_SET_MULTIPART, {**key, "p_multipart": intent.multipart_id})

    @transaction
    async def clear_intent(
        self, connection: AsyncConnection, upload_id: str, ref: ObjectRef | None = None
    ) -> None:
        if ref is not None:
            await self._clear(connection, upload_id, ref.key)
            return
        keys = (await connection.execute(_KEYS_OF_UPLOAD, {"p_upload": upload_id})).scalars()
        for key in keys.all():
            await self._clear(connection, upload_id, key)

    @transaction
    async def abandon_intent(self, connection: AsyncConnection, intent: ObjectIntent) -> None:
        await self._clear(connection, intent.upload_id, intent.object.key)
        await schedule_deletions(connection, [intent.object], await self._db.now(connection))

    async def _clear(self, connection: AsyncConnection, upload_id: str, key: str) -> None:
        """Delete the intent and record that it was cleared; waits for a running commit."""
        cleared = await connection.execute(_CLEAR, {"p_upload": upload_id, "p_key": key})
        if cleared.rowcount:
            row = {
                "upload_id": upload_id,
                "object_key": key,
                "cleared_at": await self._db.now(connection),
            }
            await self._db.dialect.insert_if_absent(connection, cleared_intents, row)

    @transaction
    async def purge_cleared_intents(
        self, connection: AsyncConnection, older_than: float, limit: int
    ) -> int:
        parameters = {"p_before": older_than, "p_limit": limit}
        rows = (await connection.execute(_OLD_CLEARED, parameters)).all()
        for row in rows:
            key = {"p_upload": row.upload_id, "p_key": row.object_key}
            await connection.execute(_PURGE_CLEARED, key)
        return len(rows)

    async def stale_intents(
        self, older_than: float, limit: int, offset: int = 0
    ) -> Sequence[ObjectIntent]:
        async with self._db.read() as connection:
            parameters = {"p_before": older_than, "p_limit": limit, "p_offset": offset}
            rows = (await connection.execute(_STALE, parameters)).all()
        return [
            ObjectIntent(
                upload_id=row.upload_id,
                tenant=row.tenant,
                object=ObjectRef(row.bucket, row.object_key),
                multipart_id=row.multipart_id,
                created_at=row.created_at,
            )
            for row in rows
        ]

    async def is_object_live(self, ref: ObjectRef) -> bool:
        async with self._db.read() as connection:
            return await is_referenced(connection, ref)

    async def now(self) -> float:
        async with self._db.read() as connection:
            return await self._db.now(connection)

    async def deletions_due(
        self, now: float, limit: int, offset: int = 0
    ) -> Sequence[ObjectDeletion]:
        async with self._db.read() as connection:
            parameters = {"p_now": now, "p_limit": limit, "p_offset": offset}
            rows = (await connection.execute(_DUE, parameters)).all()
        return [
            ObjectDeletion(row.deletion_id, ObjectRef(row.bucket, row.object_key), row.not_before)
            for row in rows
        ]

    @transaction
    async def deletion_done(self, connection: AsyncConnection, deletion_id: int) -> None:
        await connection.execute(_DELETED, {"p_id": deletion_id})


def _columns(intent: ObjectIntent) -> dict[str, Any]:
    return {
        "upload_id": intent.upload_id,
        "tenant": intent.tenant,
        "bucket": intent.object.bucket,
        "object_key": intent.object.key,
        "multipart_id": intent.multipart_id,
        "created_at": intent.created_at,
    }


def _intent_key(upload_id: str, ref: ObjectRef) -> dict[str, str]:
    return {"p_upload": upload_id, "p_key": ref.key}


def fulfil_intent_step(upload_id: str, ref: ObjectRef) -> Step:
    """Return `fulfil_intent` as a batch step; it changes no row without an uncleared intent."""
    return Step(_FULFIL, _intent_key(upload_id, ref))


async def fulfil_intent(connection: AsyncConnection, upload_id: str, ref: ObjectRef) -> None:
    """Drop the intent in the transaction that creates the object's node.

    Raise `Aborted` FENCED when the intent was cleared: the upload ended, and its object is or will
    be deleted. A commit without any intent passes.
    """
    key = _intent_key(upload_id, ref)
    fulfilled = await connection.execute(_FULFIL, key)
    if fulfilled.rowcount:
        return
    # A locking read: rows that the transaction read before may be older than the clean-up.
    if (await connection.execute(_WAS_CLEARED, key)).first() is not None:
        raise Aborted(
            "FENCED", "The upload has ended and its object was removed; no node is made of it."
        )


async def drop_intent(connection: AsyncConnection, upload_id: str, ref: ObjectRef) -> None:
    """Drop the intent of an existing node."""
    await connection.execute(_CLEAR, _intent_key(upload_id, ref))


async def is_intended(connection: AsyncConnection, ref: ObjectRef, direct_id: str) -> bool:
    """Return whether a running upload has an intent for this object.

    Args:
        direct_id: begins the ids of the intents that are none of an upload's: those of multiparts
            through presigned URLs (`direct_multipart_id`).
    """
    parameters = {
        "p_key": ref.key,
        "p_bucket": ref.bucket,
        "p_direct": direct_id,
        "p_length": len(direct_id),
    }
    result = await connection.execute(_INTENDED, parameters)
    return bool(result.scalar_one())


async def is_referenced(connection: AsyncConnection, ref: ObjectRef) -> bool:
    """Return whether a live node references this object, as its content or as a thumbnail."""
    result = await connection.execute(_IS_LIVE, {"p_key": ref.key, "p_bucket": ref.bucket})
    return bool(result.scalar_one())


async def schedule_deletions(
    connection: AsyncConnection, refs: Sequence[ObjectRef], not_before: float
) -> None:
    """Schedule the deletion of objects, except those that a live node references (rule 26)."""
    if not refs:
        return
    found = await connection.execute(_REFERENCED, {"p_keys": [ref.key for ref in refs]})
    referenced = {ObjectRef(row.bucket, row.object_key) for row in found}
    rows = [
        {"bucket": ref.bucket, "object_key": ref.key, "not_before": not_before}
        for ref in refs
        if ref not in referenced
    ]
    if rows:
        await connection.execute(_SCHEDULE, rows)
