"""Photos in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, bindparam, exists, func, literal, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.outbox import append_events
from sluice_backends.sql.photos.listing import cursor_of, listing
from sluice_backends.sql.photos.rows import photo_not_found, photo_of
from sluice_backends.sql.photos.tags import drop_tags
from sluice_backends.sql.photos.work import lock_photos, processed_nodes
from sluice_backends.sql.schema import LIVE, nodes, photos
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import FailedPrecondition
from sluice_core.events.photos import photo_deleted
from sluice_core.events.uploads import processing_requested
from sluice_core.photos.changes import Outcome, PhotoChange, reopen
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.states import (
    TAKES_PARTS,
    UNARRIVED,
    PhotoStatus,
    Reopening,
    is_terminal,
    photo_ended,
)
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.ports.photos import (
    ALL_PHOTOS,
    ChangedPhoto,
    ContradictedPhotos,
    PhotoCursor,
    PhotoFilter,
    PhotoPage,
)

_GET = select(photos).where(photos.c.photo_id == bindparam("p_photo"))
_OF_NODES = select(photos).where(photos.c.node_id.in_(bindparam("p_nodes", expanding=True)))
_OPEN = (
    select(photos)
    .where(
        photos.c.open_updated_at < bindparam("p_before"),
        # Implied by the rest, for the range of the index.
        photos.c.open_updated_at >= bindparam("p_from"),
        or_(
            photos.c.open_updated_at > bindparam("p_from"),
            photos.c.photo_id > bindparam("p_after"),
        ),
    )
    .order_by(photos.c.open_updated_at, photos.c.photo_id)
    .limit(bindparam("p_limit"))
)
_AWAITED = _OPEN.where(photos.c.asked_at < bindparam("p_asked"))
_ASKED = (
    update(photos)
    .where(photos.c.photo_id == bindparam("p_photo"))
    .values(asked_at=bindparam("p_now"))
)
_SLICE = (
    select(photos.c.photo_id)
    .where(photos.c.photo_id > bindparam("p_after"))
    .order_by(photos.c.photo_id)
    .limit(bindparam("p_limit"))
    .subquery()
)
_SLICE_END = select(func.count().label("size"), func.max(_SLICE.c.photo_id).label("last"))
_IS_NODE_LIVE = func.coalesce(nodes.c.state, literal("")) == literal(LIVE)
_CONTRADICTED = (
    select(photos)
    .join(_SLICE, _SLICE.c.photo_id == photos.c.photo_id)
    .outerjoin(nodes, nodes.c.node_id == photos.c.node_id)
    .where(
        or_(
            and_(
                _IS_NODE_LIVE,
                or_(
                    photos.c.deleted_at.is_not(None),
                    photos.c.status == literal(PhotoStatus.CANCELLED.value),
                    and_(
                        photos.c.status == literal(PhotoStatus.FAILED.value),
                        photos.c.reason.in_(sorted(UNARRIVED)),
                    ),
                ),
            ),
            and_(
                not_(_IS_NODE_LIVE),
                photos.c.deleted_at.is_(None),
                photos.c.status == literal(PhotoStatus.COMPLETED.value),
            ),
        )
    )
    .order_by(photos.c.photo_id)
)
_ASSIGN = (
    update(photos)
    .where(photos.c.photo_id == bindparam("p_photo"))
    .values(node_id=bindparam("p_node"), object_key=bindparam("p_key"))
)
_NODE_STATE = select(
    exists().where(nodes.c.node_id == bindparam("p_node")).label("is_committed"),
    exists()
    .where(nodes.c.node_id == bindparam("p_node"), nodes.c.state == literal(LIVE))
    .label("is_live"),
)


class SqlPhotos(SqlFamily):
    """The catalogue's family of photos."""

    async def get_photo(self, owner: Owner, photo_id: str) -> Photo:
        async with self._db.read() as connection:
            result = await connection.execute(_GET, {"p_photo": photo_id})
            row = result.mappings().one_or_none()
        if row is None:
            raise photo_not_found()
        photo = photo_of(row)
        if photo.owner != owner or photo.deleted_at is not None:
            raise photo_not_found()
        return photo

    async def photos_of_nodes(self, node_ids: Sequence[str]) -> Mapping[str, Photo]:
        if not node_ids:
            return {}
        async with self._db.read() as connection:
            result = await connection.execute(_OF_NODES, {"p_nodes": list(node_ids)})
            found = [photo_of(row) for row in result.mappings()]
        return {photo.node_id: photo for photo in found}

    async def open_photos(
        self,
        unchanged_since: float,
        limit: int,
        after: Photo | None = None,
        *,
        asked_before: float | None = None,
    ) -> Sequence[Photo]:
        parameters: dict[str, Any] = {
            "p_before": unchanged_since,
            "p_from": 0.0 if after is None else after.updated_at,
            "p_after": "" if after is None else after.photo_id,
            "p_limit": limit,
        }
        statement = _OPEN
        if asked_before is not None:
            statement, parameters["p_asked"] = _AWAITED, asked_before
        async with self._db.read() as connection:
            result = await connection.execute(statement, parameters)
            return [photo_of(row) for row in result.mappings()]

    @transaction
    async def keep_awaiting(self, connection: AsyncConnection, photo_id: str, attempt: int) -> None:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.photos.get(photo_id)
        if photo is None:
            raise photo_not_found()
        if photo.status not in TAKES_PARTS or photo.attempt != attempt:
            raise photo_ended(photo.status)
        await connection.execute(_ASKED, {"p_photo": photo_id, "p_now": work.now})

    async def contradicted_photos(self, slice_size: int, after: str = "") -> ContradictedPhotos:
        parameters = {"p_after": after, "p_limit": slice_size}
        async with self._db.read() as connection:
            end = (await connection.execute(_SLICE_END, parameters)).one()
            result = await connection.execute(_CONTRADICTED, parameters)
            found = [photo_of(row) for row in result.mappings()]
        return ContradictedPhotos(found, end.last if end.size == slice_size else "")

    async def list_photos(
        self,
        owner: Owner,
        limit: int,
        after: PhotoCursor | None = None,
        wanted: PhotoFilter = ALL_PHOTOS,
        *,
        skip: int = 0,
    ) -> PhotoPage:
        statement = listing(owner, wanted, after).limit(limit + 1).offset(skip)
        async with self._db.read() as connection:
            rows = (await connection.execute(statement)).mappings().all()
        page = tuple(photo_of(row) for row in rows[:limit])
        has_more = len(rows) > limit
        return PhotoPage(page, cursor_of(page[-1], wanted.sort) if has_more else None)

    @transaction
    async def change_photos(
        self,
        connection: AsyncConnection,
        changes: Sequence[PhotoChange],
        *,
        audit: AuditEntry | None = None,
    ) -> Sequence[ChangedPhoto]:
        if not changes:
            return []
        work = await lock_photos(self._db, connection, {change.photo_id for change in changes})
        completing = {
            work.photos[change.photo_id].node_id
            for change in changes
            if change.target is PhotoStatus.COMPLETED and change.photo_id in work.photos
        }
        processed = await processed_nodes(connection, completing)
        outcomes = [work.apply(change, processed) for change in changes]
        await work.write()
        if Outcome.APPLIED in outcomes:
            await append_entries(self._db, connection, audit)
        return [
            work.changed(change.photo_id, outcome)
            for change, outcome in zip(changes, outcomes, strict=True)
        ]

    @transaction
    async def reopen_photo(
        self,
        connection: AsyncConnection,
        owner: Owner,
        photo_id: str,
        how: Reopening,
        *,
        audit: AuditEntry | None = None,
        trace_parent: str = "",
    ) -> ChangedPhoto:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.owned(owner, photo_id)
        again = reopen(photo, how, work.now)
        if again is photo:
            await append_events(connection, _requests(photo, how, work.now, trace_parent))
            return work.changed(photo_id, Outcome.REPEATED)
        await _check_object(connection, photo, how)
        work.step(photo.status, again, trace_parent=trace_parent)
        await work.write()
        await append_events(connection, _requests(again, how, work.now, trace_parent))
        await work.forget_multipart(again)
        await append_entries(self._db, connection, audit)
        return work.changed(photo_id, Outcome.APPLIED)

    @transaction
    async def assign_node(
        self, connection: AsyncConnection, owner: Owner, photo_id: str, node_id: str
    ) -> Photo:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.owned(owner, photo_id)
        if photo.node_id == node_id:
            return photo
        if photo.status not in TAKES_PARTS:
            raise photo_ended(photo.status)
        key = f"{photo.object.key.rpartition('/')[0]}/{node_id}"
        moved = replace(photo, node_id=node_id, object=replace(photo.object, key=key))
        work.photos[photo_id] = moved
        await connection.execute(_ASSIGN, {"p_photo": photo_id, "p_node": node_id, "p_key": key})
        work.apply(PhotoChange(photo_id, PhotoStatus.UPLOADING), ())
        await work.write()
        return work.photos[photo_id]

    @transaction
    async def delete_photo(
        self,
        connection: AsyncConnection,
        owner: Owner,
        photo_id: str,
        *,
        audit: AuditEntry | None = None,
    ) -> Photo:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.owned(owner, photo_id)
        if not is_terminal(photo.status):
            work.apply(PhotoChange(photo_id, PhotoStatus.CANCELLED), ())
        ended = work.photos[photo_id]
        deleted = replace(
            ended, version=ended.version + 1, updated_at=work.now, deleted_at=work.now
        )
        work.touch(deleted, photo_deleted(deleted))
        await drop_tags(connection, photo_id)
        await work.write()
        await append_entries(self._db, connection, audit)
        return photo


def _requests(photo: Photo, how: Reopening, now: float, trace_parent: str) -> Sequence[EventRecord]:
    """Return the request to the processors, in the transaction of the photo: it cannot be lost."""
    if how is not Reopening.REPROCESS:
        return ()
    tenant = photo.owner.tenant
    return (processing_requested(tenant, photo.node_id, now, trace_parent=trace_parent),)


async def _check_object(connection: AsyncConnection, photo: Photo, how: Reopening) -> None:
    state = (await connection.execute(_NODE_STATE, {"p_node": photo.node_id})).one()
    if state.is_committed and not state.is_live:
        raise FailedPrecondition(
            "OBJECT_DELETED",
            "The object of the photo was deleted; upload the photo in a new job.",
        )
    if how is Reopening.RETRY and state.is_committed:
        raise FailedPrecondition(
            "OBJECT_EXISTS",
            "The photo was uploaded and failed afterwards; process it again, or upload it in a"
            " new job.",
        )
    if how is not Reopening.RETRY and not state.is_live:
        raise FailedPrecondition(
            "OBJECT_MISSING", "The photo has no object to process; retry its upload."
        )
