"""Photos in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import bindparam, exists, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.photos.listing import cursor_of, listing
from sluice_backends.sql.photos.rows import photo_not_found, photo_of
from sluice_backends.sql.photos.tags import drop_tags
from sluice_backends.sql.photos.work import lock_photos, processed_nodes
from sluice_backends.sql.schema import LIVE, nodes, photos, upload_jobs
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import FailedPrecondition
from sluice_core.events.photos import photo_deleted
from sluice_core.photos.changes import Outcome, PhotoChange, reopen
from sluice_core.photos.counts import JobStatus
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.states import TERMINAL, PhotoStatus, Reopening, is_terminal
from sluice_core.ports.photos import (
    ALL_PHOTOS,
    ChangedPhoto,
    PhotoCursor,
    PhotoFilter,
    PhotoPage,
)

_GET = select(photos).where(photos.c.photo_id == bindparam("p_photo"))
_OF_NODES = select(photos).where(photos.c.node_id.in_(bindparam("p_nodes", expanding=True)))
# By the jobs that are open: those are few, while most photos of the table have ended.
_OPEN = (
    select(photos)
    .join(upload_jobs, upload_jobs.c.job_id == photos.c.job_id)
    .where(
        upload_jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.IN_PROGRESS.value]),
        photos.c.status.not_in([status.value for status in sorted(TERMINAL)]),
        photos.c.updated_at < bindparam("p_before"),
        photos.c.photo_id > bindparam("p_after"),
    )
    .order_by(photos.c.photo_id)
    .limit(bindparam("p_limit"))
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
        self, unchanged_since: float, limit: int, after: str = ""
    ) -> Sequence[Photo]:
        parameters = {"p_before": unchanged_since, "p_after": after, "p_limit": limit}
        async with self._db.read() as connection:
            result = await connection.execute(_OPEN, parameters)
            return [photo_of(row) for row in result.mappings()]

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
    ) -> ChangedPhoto:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.owned(owner, photo_id)
        again = reopen(photo, how, work.now)
        if again is photo:
            return work.changed(photo_id, Outcome.REPEATED)
        await _check_object(connection, photo, how)
        work.step(photo.status, again)
        await work.write()
        await work.forget_multipart(again)
        await append_entries(self._db, connection, audit)
        return work.changed(photo_id, Outcome.APPLIED)

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
    if how is Reopening.REPROCESS and not state.is_live:
        raise FailedPrecondition(
            "OBJECT_MISSING", "The photo has no object to process; retry its upload."
        )
