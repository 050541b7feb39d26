"""Objects in SQL: intents to make them and orders to delete them (rules 13, 19 and 26)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, exists, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_common.catalogue.database import SqlFamily, transaction
from sluice_common.catalogue.dialect import Step
from sluice_common.catalogue.port import ObjectDeletion, ObjectIntent
from sluice_common.catalogue.schema import (
    LIVE,
    nodes,
    object_deletions,
    object_intents,
    thumbnails,
)
from sluice_common.uploads.model import ObjectRef

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
    .order_by(object_deletions.c.not_before)
    .limit(bindparam("p_limit"))
)
_DELETED = delete(object_deletions).where(object_deletions.c.deletion_id == bindparam("p_id"))
_SET_MULTIPART = (
    update(object_intents)
    .where(object_intents.c.upload_id == bindparam("p_upload"))
    .values(multipart_id=bindparam("p_multipart"))
)
_CLEAR = delete(object_intents).where(object_intents.c.upload_id == bindparam("p_upload"))
_INTENDED = select(
    exists().where(
        object_intents.c.object_key == bindparam("p_key"),
        object_intents.c.bucket == bindparam("p_bucket"),
    )
)
_STALE = (
    select(object_intents)
    .where(object_intents.c.created_at < bindparam("p_before"))
    .order_by(object_intents.c.created_at)
    .limit(bindparam("p_limit"))
)


class SqlObjects(SqlFamily):
    """The catalogue's family of intents and deletions."""

    async def record_intent(self, intent: ObjectIntent) -> None:
        async with self._db.deadline():
            # With a multipart it is a repeat of the first step, most likely.
            if intent.multipart_id or not await self._db.commit_at_once(
                [Step(_INTEND, _columns(intent))]
            ):
                await self._record_intent(intent)

    @transaction
    async def _record_intent(self, connection: AsyncConnection, intent: ObjectIntent) -> None:
        created = await self._db.dialect.insert_if_absent(
            connection, object_intents, _columns(intent)
        )
        # A repeat of the first step knows no multipart yet; it must not wipe out the one
        # that the second step wrote, or that multipart would be orphaned.
        if not created and intent.multipart_id:
            await connection.execute(
                _SET_MULTIPART,
                {"p_upload": intent.upload_id, "p_multipart": intent.multipart_id},
            )

    @transaction
    async def clear_intent(self, connection: AsyncConnection, upload_id: str) -> None:
        await drop_intent(connection, upload_id)

    async def stale_intents(self, older_than: float, limit: int) -> Sequence[ObjectIntent]:
        async with self._db.read() as connection:
            parameters = {"p_before": older_than, "p_limit": limit}
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
            return await is_named(connection, ref)

    async def now(self) -> float:
        async with self._db.read() as connection:
            return await self._db.now(connection)

    async def deletions_due(self, now: float, limit: int) -> Sequence[ObjectDeletion]:
        async with self._db.read() as connection:
            rows = (await connection.execute(_DUE, {"p_now": now, "p_limit": limit})).all()
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


def dropping_intent(upload_id: str) -> Step:
    """What `drop_intent` does, in a transaction that is made at once."""
    return Step(_CLEAR, {"p_upload": upload_id})


async def drop_intent(connection: AsyncConnection, upload_id: str) -> None:
    await connection.execute(_CLEAR, {"p_upload": upload_id})


async def is_intended(connection: AsyncConnection, ref: ObjectRef) -> bool:
    """Has an upload said that it is about to make this object, and not ended since?"""
    result = await connection.execute(_INTENDED, {"p_key": ref.key, "p_bucket": ref.bucket})
    return bool(result.scalar_one())


async def is_named(connection: AsyncConnection, ref: ObjectRef) -> bool:
    """Does a live node name this object, as its content or as a thumbnail?"""
    result = await connection.execute(_IS_LIVE, {"p_key": ref.key, "p_bucket": ref.bucket})
    return bool(result.scalar_one())


async def schedule_deletion(connection: AsyncConnection, ref: ObjectRef, not_before: float) -> None:
    """Order the deletion of an object, unless a live node names it still (rule 26)."""
    if not await is_named(connection, ref):
        await connection.execute(
            _SCHEDULE, {"bucket": ref.bucket, "object_key": ref.key, "not_before": not_before}
        )
