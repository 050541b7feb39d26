"""Command: create an upload job."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.errors import InvalidArgument, Unavailable
from sluice_core.photos.ids import job_id_of, new_photo_id
from sluice_core.photos.names import (
    check_content_type,
    check_filename,
    check_photo_size,
    photo_path,
    unique_filenames,
)
from sluice_core.photos.strategies import UploadStrategy, parse_strategy
from sluice_core.ports.catalogue import Drive
from sluice_core.ports.upload_jobs import NewJob, NewPhoto
from sluice_core.uploads.ids import new_node_id
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.drives import writable_drive
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.views import NewJobBody, NewJobView


@dataclass(frozen=True, slots=True)
class _File:
    filename: str
    content_type: str
    size: int


async def create_job(
    services: PhotoServices, caller: Caller, body: NewJobBody, operation_id: str
) -> NewJobView:
    """Create a job with its photos, and return how to send each of them.

    Sends no request to the store, so it works while that is down.

    Raise `InvalidArgument` BAD_FILENAME, UNSUPPORTED_CONTENT_TYPE, BAD_PHOTO_SIZE, BAD_STRATEGY;
    `RateLimited`; `Unavailable` BACK_PRESSURE; `PermissionDenied` NOT_GRANTED, DRIVE_READ_ONLY;
    `ResourceExhausted` QUOTA_EXCEEDED for a job whose photos do not fit together; the errors of a
    store that cannot sign URLs, and then there is no job.
    """
    strategy = _check_strategy(body.strategy, services.options)
    files = _check_files(body, services.options.max_photo_bytes)
    await services.limits.admit_job(caller.principal)
    await _check_pressure(services)
    drive = await writable_drive(services.catalogue, services.homes, caller.principal)
    # A PUT to the store is not stopped by a quota: its object is there when somebody hears of it.
    job_id = job_id_of(operation_id)
    total = sum(file.size for file in files)
    await services.catalogue.check_room(drive.tenant, drive.name, total, len(files), job_id=job_id)
    new = NewJob(
        job_id=job_id,
        owner=caller.owner,
        drive=drive.name,
        strategy=strategy,
        photos=[_new_photo(drive, job_id, file) for file in files],
        trace_parent=current_traceparent(),
    )
    await services.urls.check(drive, strategy, new.photos[0])
    audit = caller.audit("CreateUploadJob", f"job/{job_id}")
    created = await services.catalogue.create_job(new, audit=audit)
    if created.created:
        services.metrics.created.inc()
        services.metrics.photos.inc(len(files))
        # Without the photos: nobody knows them yet, and their first progress shows them.
        await services.announcer.publish(created.job)
    items = await services.urls.items(drive, strategy, created.photos)
    return NewJobView(job_id=job_id, items=items)


def _check_strategy(name: str, options: PhotoOptions) -> UploadStrategy:
    strategy = parse_strategy(name)
    if strategy is UploadStrategy.TUS and not options.tus_path:
        raise InvalidArgument(
            "BAD_STRATEGY", "This server does not speak tus; use s3-presigned.", field="strategy"
        )
    return strategy


def _check_files(body: NewJobBody, max_bytes: int) -> list[_File]:
    """Return the files with names that are unique in the job."""
    checked = [
        _File(
            check_filename(file.filename, f"files.{index}.filename"),
            check_content_type(file.mime_type, f"files.{index}.mimeType"),
            check_photo_size(file.size, max_bytes, f"files.{index}.bytes"),
        )
        for index, file in enumerate(body.files)
    ]
    names = unique_filenames(file.filename for file in checked)
    return [
        _File(name, file.content_type, file.size) for name, file in zip(names, checked, strict=True)
    ]


async def _check_pressure(services: PhotoServices) -> None:
    delay = await services.pressure.retry_after_seconds()
    if delay is not None:
        services.metrics.deferred.inc()
        raise Unavailable(
            "BACK_PRESSURE",
            "Too many photos wait to be processed; create the job after the delay.",
            retry_after_seconds=delay,
        )


def _new_photo(drive: Drive, job_id: str, file: _File) -> NewPhoto:
    node_id = new_node_id()
    return NewPhoto(
        photo_id=new_photo_id(),
        node_id=node_id,
        object=ObjectRef(drive.bucket, f"{drive.key_prefix}{drive.tenant}/{drive.name}/{node_id}"),
        filename=file.filename,
        path=photo_path(job_id, file.filename),
        content_type=file.content_type,
        size=file.size,
    )
