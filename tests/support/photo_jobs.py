"""Upload jobs and photos for tests that use the catalogue."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from google.protobuf.message import Message

from sluice_core.events.registry import parse_record
from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.ids import job_id_of, new_operation_id, new_photo_id
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.names import photo_path, unique_filenames
from sluice_core.photos.states import PhotoStatus
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.ports.event_publisher import PHOTOS_TOPIC
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.upload_jobs import NewJob, NewPhoto
from sluice_core.uploads.ids import new_node_id
from sluice_core.uploads.model import ObjectRef
from support.commits import BUCKET, DRIVE, TENANT, finished_upload
from support.processing_results import processed

ANN = Owner(TENANT, "ann")
BEN = Owner(TENANT, "ben")
RIVAL = Owner("rival", "ann")


def new_job(
    *filenames: str, owner: Owner = ANN, job_id: str = "", size: int = 10, trace_parent: str = ""
) -> NewJob:
    """Return a job of these files, by default of one."""
    job_id = job_id or job_id_of(new_operation_id())
    return NewJob(
        job_id=job_id,
        owner=owner,
        drive=DRIVE,
        strategy=UploadStrategy.S3_PRESIGNED,
        photos=[
            _new_photo(job_id, name, owner, size)
            for name in unique_filenames(filenames or ("a.jpg",))
        ],
        trace_parent=trace_parent,
    )


def _new_photo(job_id: str, filename: str, owner: Owner, size: int) -> NewPhoto:
    node_id = new_node_id()
    return NewPhoto(
        photo_id=new_photo_id(),
        node_id=node_id,
        object=ObjectRef(BUCKET, f"{owner.tenant}/{DRIVE}/{node_id}"),
        filename=filename,
        path=photo_path(job_id, filename),
        content_type="image/jpeg",
        size=size,
    )


async def create_photo(catalogue: GatewayCatalogue) -> Photo:
    """Create a job with one photo and return that."""
    return (await catalogue.create_job(new_job())).photos[0]


async def change_photo(
    catalogue: GatewayCatalogue,
    photo: Photo,
    target: PhotoStatus,
    *,
    attempt: int | None = None,
    reason: str = "",
    detail: str = "",
) -> Outcome:
    """Apply one change and return what became of it."""
    change = PhotoChange(photo.photo_id, target, attempt, reason, detail)
    (result,) = await catalogue.change_photos([change])
    return result.outcome


async def commit_object(catalogue: GatewayCatalogue, photo: Photo) -> None:
    """Commit the node of a photo, as when its object is in the store."""
    commit = finished_upload(photo.path, node_id=photo.node_id)
    assert commit.object == photo.object
    await catalogue.commit_node(commit)


async def process_object(catalogue: GatewayCatalogue, photo: Photo) -> None:
    """Commit the node of a photo and record that it was processed."""
    await commit_object(catalogue, photo)
    await catalogue.record_processed(photo.owner.tenant, photo.node_id, processed(photo.node_id))


async def photo_events(catalogue: GatewayCatalogue, *keys: str) -> list[Message]:
    """Return the unpublished events of photos and jobs in order, of these keys if any are given."""
    return [
        parse_record(row.event)
        for row in await catalogue.outbox(100_000)
        if row.event.topic == PHOTOS_TOPIC and (not keys or row.event.key in keys)
    ]


def names_of(events: Sequence[Message]) -> list[str]:
    return [event.DESCRIPTOR.name for event in events]


def counted(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return runs of equal names with their lengths."""
    return [(name, len(list(run))) for name, run in itertools.groupby(names)]
