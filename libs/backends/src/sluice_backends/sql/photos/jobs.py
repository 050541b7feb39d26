"""Upload jobs in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import and_, bindparam, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.outbox import append_events
from sluice_backends.sql.photos.rows import (
    each_row,
    job_columns,
    job_not_found,
    job_of,
    photo_columns,
    photo_of,
    whole_micros,
)
from sluice_backends.sql.photos.work import lock_job
from sluice_backends.sql.schema import photos, upload_jobs
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import AlreadyExists
from sluice_core.events.photos import job_created, photo_entered
from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.counts import JobStatus, PhotoCounts
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import PhotoStatus, is_terminal
from sluice_core.ports.catalogue_load import OpenPhotos
from sluice_core.ports.upload_jobs import JobCursor, JobPage, JobWithPhotos, NewJob

_GET = select(upload_jobs).where(upload_jobs.c.job_id == bindparam("p_job"))
# One statement, so that counts and photos are of one moment.
_GET_WITH_PHOTOS = (
    select(upload_jobs, photos)
    .join(photos, photos.c.job_id == upload_jobs.c.job_id)
    .where(upload_jobs.c.job_id == bindparam("p_job"))
    .order_by(photos.c.position)
)
_VERSIONS = select(upload_jobs.c.job_id, upload_jobs.c.version).where(
    upload_jobs.c.job_id.in_(bindparam("p_jobs", expanding=True))
)
_NEW_PHOTOS = insert(photos)
# By the counts of open jobs: those are few, and the index of their status finds them.
_OPEN_PHOTOS = select(
    func.coalesce(func.sum(upload_jobs.c.queued + upload_jobs.c.uploading), 0),
    func.coalesce(func.sum(upload_jobs.c.processing), 0),
).where(upload_jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.IN_PROGRESS.value]))


class SqlUploadJobs(SqlFamily):
    """The catalogue's family of upload jobs."""

    @transaction
    async def create_job(
        self, connection: AsyncConnection, new: NewJob, *, audit: AuditEntry | None = None
    ) -> JobWithPhotos:
        job, made = _records_of(new, whole_micros(self._db.clock()))
        row = job_columns(job)
        if not await self._db.dialect.insert_if_absent(connection, upload_jobs, row):
            stored = await _job_with_photos(connection, new.job_id)
            if stored.job.owner != new.owner:
                raise AlreadyExists(
                    "JOB_EXISTS", "The job id is taken; create the job with another id."
                )
            return stored
        await connection.execute(_NEW_PHOTOS, [photo_columns(photo) for photo in made])
        trace = new.trace_parent
        await append_events(
            connection,
            [
                job_created(job, trace_parent=trace),
                *(photo_entered(photo, trace_parent=trace) for photo in made),
            ],
        )
        await append_entries(self._db, connection, audit)
        return JobWithPhotos(job, made, created=True)

    async def get_job(self, owner: Owner, job_id: str) -> UploadJob:
        async with self._db.read() as connection:
            result = await connection.execute(_GET, {"p_job": job_id})
            row = result.mappings().one_or_none()
        if row is None or (job := job_of(row)).owner != owner:
            raise job_not_found()
        return job

    async def job_with_photos(self, owner: Owner, job_id: str) -> JobWithPhotos:
        async with self._db.read() as connection:
            found = await _job_with_photos(connection, job_id)
        if found.job.owner != owner:
            raise job_not_found()
        return found

    async def count_open_photos(self) -> OpenPhotos:
        async with self._db.read() as connection:
            arriving, processing = (await connection.execute(_OPEN_PHOTOS)).one()
        return OpenPhotos(int(arriving), int(processing))

    async def job_versions(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        if not job_ids:
            return {}
        async with self._db.read() as connection:
            result = await connection.execute(_VERSIONS, {"p_jobs": list(job_ids)})
            return {row.job_id: row.version for row in result}

    async def list_jobs(
        self,
        owner: Owner,
        limit: int,
        after: JobCursor | None = None,
        *,
        status: JobStatus | None = None,
        skip: int = 0,
    ) -> JobPage:
        c = upload_jobs.c
        statement = (
            select(upload_jobs)
            .where(c.tenant == owner.tenant, c.user_id == owner.user_id)
            .order_by(c.created_at.desc(), c.job_id.desc())
            .limit(limit + 1)
            .offset(skip)
        )
        if status is not None:
            statement = statement.where(c.status == status.value)
        if after is not None:
            statement = statement.where(
                # Implied by the rest, for the range of the index.
                c.created_at <= after.created_at,
                or_(
                    c.created_at < after.created_at,
                    and_(c.created_at == after.created_at, c.job_id < after.job_id),
                ),
            )
        async with self._db.read() as connection:
            rows = (await connection.execute(statement)).mappings().all()
        page = tuple(job_of(row) for row in rows[:limit])
        has_more = len(rows) > limit
        return JobPage(page, JobCursor(page[-1].created_at, page[-1].job_id) if has_more else None)

    @transaction
    async def cancel_job(
        self,
        connection: AsyncConnection,
        owner: Owner,
        job_id: str,
        *,
        audit: AuditEntry | None = None,
    ) -> Sequence[Photo]:
        work = await lock_job(self._db, connection, job_id)
        job = work.jobs.get(job_id)
        if job is None or job.owner != owner:
            raise job_not_found()
        opened = [photo.photo_id for photo in work.photos.values() if not is_terminal(photo.status)]
        for photo_id in opened:
            outcome = work.apply(PhotoChange(photo_id, PhotoStatus.CANCELLED), ())
            assert outcome is Outcome.APPLIED, "every open photo can be cancelled"
        if opened:
            await work.write()
            await append_entries(self._db, connection, audit)
        return [work.photos[photo_id] for photo_id in opened]


def _records_of(new: NewJob, now: float) -> tuple[UploadJob, tuple[Photo, ...]]:
    job = UploadJob(
        job_id=new.job_id,
        owner=new.owner,
        drive=new.drive,
        strategy=new.strategy,
        counts=PhotoCounts(queued=len(new.photos)),
        total_bytes=sum(photo.size for photo in new.photos),
        created_at=now,
        updated_at=now,
    )
    made = tuple(
        Photo(
            photo_id=photo.photo_id,
            job_id=new.job_id,
            position=position,
            owner=new.owner,
            node_id=photo.node_id,
            drive=new.drive,
            path=photo.path,
            object=photo.object,
            filename=photo.filename,
            content_type=photo.content_type,
            size=photo.size,
            status=PhotoStatus.QUEUED,
            created_at=now,
            updated_at=now,
            attempt_started_at=now,
            asked_at=now,
        )
        for position, photo in enumerate(new.photos)
    )
    return job, made


async def _job_with_photos(connection: AsyncConnection, job_id: str) -> JobWithPhotos:
    job: UploadJob | None = None
    found: list[Photo] = []
    async for row in each_row(await connection.execute(_GET_WITH_PHOTOS, {"p_job": job_id})):
        job = job or job_of(row)
        found.append(photo_of(row))
    if job is None:
        raise job_not_found()
    return JobWithPhotos(job, tuple(found))
