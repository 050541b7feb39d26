"""Changes of photos under the locks of their jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import bindparam, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import Database
from sluice_backends.sql.nodes import find_rows
from sluice_backends.sql.objects import schedule_deletions
from sluice_backends.sql.outbox import append_events
from sluice_backends.sql.photos.rows import (
    MAX_DETAIL_CHARACTERS,
    MAX_REASON_CHARACTERS,
    changing_columns,
    changing_job_columns,
    each_row,
    job_of,
    photo_not_found,
    photo_of,
    whole_micros,
)
from sluice_backends.sql.schema import LIVE, nodes, photos, processings, upload_jobs, upload_parts
from sluice_backends.sql.tombstones import lock_live, remove_live
from sluice_core.catalogue.processing import ProcessingState
from sluice_core.events.photos import job_ended, photo_entered
from sluice_core.photos.changes import Outcome, PhotoChange, decide, enter, move
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.ports.photos import ChangedPhoto

_JOBS_OF = (
    select(photos.c.job_id)
    .where(photos.c.photo_id.in_(bindparam("p_photos", expanding=True)))
    .distinct()
)
_LOCK_JOB = select(upload_jobs).where(upload_jobs.c.job_id == bindparam("p_job")).with_for_update()
_PHOTOS = select(photos).where(photos.c.photo_id.in_(bindparam("p_photos", expanding=True)))
_PHOTOS_OF_JOB = select(photos).where(photos.c.job_id == bindparam("p_job"))
_PROCESSED = (
    select(nodes.c.node_id)
    .join(processings, processings.c.node_id == nodes.c.node_id)
    .where(
        nodes.c.node_id.in_(bindparam("p_nodes", expanding=True)),
        nodes.c.state == literal(LIVE),
        processings.c.state == literal(ProcessingState.PROCESSED.value),
    )
)
_CHANGE = update(photos).where(photos.c.photo_id == bindparam("p_photo"))
_FORGET_MULTIPART = _CHANGE.values(multipart_id="")
_CHANGE_JOB = update(upload_jobs).where(upload_jobs.c.job_id == bindparam("p_job"))
_FORGET_PARTS = delete(upload_parts).where(
    upload_parts.c.photo_id.in_(bindparam("p_photos", expanding=True))
)


class PhotoWork:
    """Photos of locked jobs, and what a transaction changes about them.

    The lock of the job's row protects its counts and every photo of it. A transaction locks in this
    order: jobs by id, then tags, then paths and nodes. `write` ends it: it writes each changed
    photo and job once, and their events in the order of the changes.
    """

    def __init__(
        self,
        database: Database,
        connection: AsyncConnection,
        jobs: Mapping[str, UploadJob],
        found: Iterable[Photo],
    ) -> None:
        self._db = database
        self._connection = connection
        self.now = whole_micros(database.clock())
        self.jobs = dict(jobs)
        self.photos = {photo.photo_id: photo for photo in found}
        self._steps: defaultdict[str, list[tuple[PhotoStatus, Photo]]] = defaultdict(list)
        self._events: defaultdict[str, list[EventRecord]] = defaultdict(list)
        self._changed: set[str] = set()
        self._traces: dict[str, str] = {}

    def owned(self, owner: Owner, photo_id: str) -> Photo:
        """Return a photo of this owner that is not deleted. Raise `NotFound` PHOTO_NOT_FOUND."""
        photo = self.photos.get(photo_id)
        if photo is None or photo.owner != owner or photo.deleted_at is not None:
            raise photo_not_found()
        return photo

    def apply(self, change: PhotoChange, processed: Collection[str]) -> Outcome:
        """Apply a change; `processed` are the nodes with a processed object."""
        photo = self.photos.get(change.photo_id)
        if photo is None:
            return Outcome.UNKNOWN
        outcome, entered = decide(photo, change, is_processed=photo.node_id in processed)
        short = replace(
            change,
            reason=change.reason[:MAX_REASON_CHARACTERS],
            detail=change.detail[:MAX_DETAIL_CHARACTERS],
            taken_at=None if change.taken_at is None else whole_micros(change.taken_at),
        )
        for status in entered:
            former, photo = photo.status, enter(photo, status, short, self.now)
            self.step(former, photo, trace_parent=change.trace_parent)
        return outcome

    def step(self, former: PhotoStatus, photo: Photo, *, trace_parent: str = "") -> None:
        """Record that the photo entered its status from a former one."""
        self._steps[photo.job_id].append((former, photo))
        self._traces[photo.job_id] = trace_parent
        self.touch(photo, photo_entered(photo, trace_parent=trace_parent))

    def touch(self, photo: Photo, event: EventRecord) -> None:
        """Record a change of a photo with its event; the photo has a new version."""
        self.photos[photo.photo_id] = photo
        self._changed.add(photo.photo_id)
        self._events[photo.job_id].append(event)

    def changed(self, photo_id: str, outcome: Outcome) -> ChangedPhoto:
        """Return what became of a change, after `write`."""
        photo = self.photos.get(photo_id)
        return ChangedPhoto(outcome, photo, None if photo is None else self.jobs[photo.job_id])

    async def write(self) -> None:
        """Write what has changed, and its events to the outbox."""
        if not self._changed:
            return
        events: list[EventRecord] = []
        for job_id in sorted(self._events):
            changed = move(self.jobs[job_id], self._steps[job_id], self.now)
            self.jobs[job_id] = changed.job
            events += self._events[job_id]
            if changed.has_ended:
                events.append(job_ended(changed.job, trace_parent=self._traces[job_id]))
        written = [self.photos[photo_id] for photo_id in sorted(self._changed)]
        await self._connection.execute(
            _CHANGE, [{"p_photo": photo.photo_id, **changing_columns(photo)} for photo in written]
        )
        await self._connection.execute(
            _CHANGE_JOB,
            [
                {"p_job": job_id, **changing_job_columns(self.jobs[job_id])}
                for job_id in sorted(self._events)
            ],
        )
        await self._forget_parts()
        await append_events(self._connection, events)
        await self._discard_objects(written)

    async def forget_multipart(self, photo: Photo) -> None:
        """Forget the multipart and the parts of a former attempt."""
        await self._connection.execute(_FORGET_MULTIPART, {"p_photo": photo.photo_id})
        await self._connection.execute(_FORGET_PARTS, {"p_photos": [photo.photo_id]})

    async def _forget_parts(self) -> None:
        """Forget the parts of uploads that are over."""
        ended = {
            photo.photo_id
            for steps in self._steps.values()
            for former, photo in steps
            if former in TAKES_PARTS and photo.status not in TAKES_PARTS
        }
        if ended:
            await self._connection.execute(_FORGET_PARTS, {"p_photos": sorted(ended)})

    async def _discard_objects(self, written: Iterable[Photo]) -> None:
        """Remove the objects of cancelled and deleted photos."""
        cancelled = {
            photo.photo_id
            for steps in self._steps.values()
            for _, photo in steps
            if photo.status is PhotoStatus.CANCELLED
        }
        gone = [
            photo
            for photo in written
            if photo.photo_id in cancelled or photo.deleted_at == self.now
        ]
        if gone:
            await self._discard_objects_of(gone)

    async def _discard_objects_of(self, gone: Sequence[Photo]) -> None:
        found = await find_rows(self._connection, [photo.node_id for photo in gone])
        stored = {row.node_id for row in found}
        # A URL that was signed for a photo may still bring its object.
        awaited = [photo.object for photo in gone if photo.node_id not in stored]
        if awaited:
            not_before = await self._db.now(self._connection) + MAX_DOWNLOAD_URL_SECONDS
            await schedule_deletions(self._connection, awaited, not_before)
        live = await lock_live(self._db, self._connection, found)
        await remove_live(self._db, self._connection, live)


async def lock_photos(
    database: Database, connection: AsyncConnection, photo_ids: Collection[str]
) -> PhotoWork:
    """Lock the jobs of these photos and read both; unknown photos are missing."""
    parameters = {"p_photos": sorted(photo_ids)}
    job_ids = (await connection.execute(_JOBS_OF, parameters)).scalars().all()
    jobs = {}
    # One by one in the order of their ids: the order prevents deadlocks.
    for job_id in sorted(job_ids):
        jobs[job_id] = job_of(
            (await connection.execute(_LOCK_JOB, {"p_job": job_id})).mappings().one()
        )
    # After the locks: what was read before them may be old.
    rows = await connection.execute(_PHOTOS, parameters)
    return PhotoWork(database, connection, jobs, [photo_of(row) async for row in each_row(rows)])


async def lock_job(database: Database, connection: AsyncConnection, job_id: str) -> PhotoWork:
    """Lock a job and read it with all of its photos; without any for an unknown job."""
    row = (await connection.execute(_LOCK_JOB, {"p_job": job_id})).mappings().one_or_none()
    jobs = {} if row is None else {job_id: job_of(row)}
    rows = await connection.execute(_PHOTOS_OF_JOB, {"p_job": job_id})
    return PhotoWork(database, connection, jobs, [photo_of(row) async for row in each_row(rows)])


async def processed_nodes(connection: AsyncConnection, node_ids: Collection[str]) -> frozenset[str]:
    """Return which of these nodes are live and have a processed object."""
    if not node_ids:
        return frozenset()
    found = await connection.execute(_PROCESSED, {"p_nodes": sorted(node_ids)})
    return frozenset(found.scalars())
