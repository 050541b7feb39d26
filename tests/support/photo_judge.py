"""The judge of photos after faults: states, bytes, orphans and events, from what is stored."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_core.events.registry import parse_record
from sluice_core.photos.counts import JOB_ENDS, PhotoCounts
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.states import PhotoStatus, is_terminal
from sluice_core.ports.event_publisher import PHOTOS_TOPIC, EventRecord
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.metrics import ProjectionMetrics
from sluice_gateway.projection.projector import Projector
from sluice_gateway.projection.sweeper import PhotoSweeper, SweepOptions
from support.photo_user import SentPhoto

STATUS_OF: Final = {
    "kept": PhotoStatus.COMPLETED,
    "cancelled": PhotoStatus.CANCELLED,
    "deleted": PhotoStatus.COMPLETED,
    "abandoned": PhotoStatus.FAILED,
}
_LONG_AGO_SECONDS: Final = -10 * 24 * 3600.0
_AGED: Final = SweepOptions(
    arrival_seconds=_LONG_AGO_SECONDS,
    quiet_seconds=_LONG_AGO_SECONDS,
    stuck_seconds=_LONG_AGO_SECONDS,
    intent_seconds=_LONG_AGO_SECONDS,
)
"""As if all that is open had been left alone for days."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the processes have left behind. They have stopped.

    Args:
        events: all published events in the order of their topic or log, repeats included.
        sizes: of the thumbnails of each photo.
    """

    catalogue: GatewayCatalogue
    objects: ObjectStore
    events: Sequence[EventRecord]
    sizes: Collection[int]


async def sweep_as_if_days_later(catalogue: GatewayCatalogue, objects: ObjectStore) -> list[str]:
    """Run the sweeper on all that is open; return the objects that nobody had noticed."""
    overlooked: list[str] = []

    async def notice(ref: ObjectRef, *, happened_at: float) -> None:
        assert happened_at > 0
        overlooked.append(ref.key)

    announcer = Announcer(catalogue, MemoryLiveUpdates())
    metrics = ProjectionMetrics()
    projector = Projector(catalogue, announcer, metrics)
    sweeper = PhotoSweeper(catalogue, objects, projector, announcer, metrics, _AGED, notice)
    await sweeper.sweep()
    return overlooked


async def judge(evidence: Evidence, owner: Owner, sent: Sequence[SentPhoto]) -> list[ObjectRef]:
    """Check every promise about these photos; return the objects that the store may have.

    The caller checks that the store has no other ones, and no open multiparts.
    """
    catalogue, objects = evidence.catalogue, evidence.objects
    assert await sweep_as_if_days_later(catalogue, objects) == []
    photos = await _photos(catalogue, owner, sent)
    for each in sent:
        photo = photos[each.photo_id]
        assert photo.status is STATUS_OF[each.fate], (each.fate, photo)
        assert (photo.deleted_at is not None) == (each.fate == "deleted"), photo
        assert photo.reason == ("NOT_ARRIVED" if each.fate == "abandoned" else ""), photo
    wanted: list[ObjectRef] = []
    for each in sent:
        if each.fate == "kept":
            wanted += await _judge_kept(evidence, photos[each.photo_id], each.content)
    nodes = await catalogue.candidates([photo.node_id for photo in photos.values()])
    kept = {photos[each.photo_id].node_id for each in sent if each.fate == "kept"}
    assert set(nodes) == kept, "a node that nobody wants, or none of a whole photo"
    # The end of what was abandoned is in the outbox: its processes have stopped.
    unpublished = [row.event for row in await catalogue.outbox(100_000)]
    judge_events([*evidence.events, *unpublished], photos.values())
    judge_jobs([*evidence.events, *unpublished], {each.job_id for each in sent})
    far_future = await catalogue.now() + 10 * 365 * 24 * 3600
    deletions = await catalogue.deletions_due(far_future, 100_000)
    scheduled = {each.object for each in deletions}
    assert scheduled.isdisjoint(wanted), "a wanted object is to be deleted"
    there = [ref for ref in scheduled if await objects.head(ref) is not None]
    return [*wanted, *there]


async def _photos(
    catalogue: GatewayCatalogue, owner: Owner, sent: Iterable[SentPhoto]
) -> dict[str, Photo]:
    """Return the photos of these jobs by id, and check that no job has other ones."""
    photos: dict[str, Photo] = {}
    of_jobs: defaultdict[str, set[str]] = defaultdict(set)
    for each in sent:
        of_jobs[each.job_id].add(each.photo_id)
    for job_id, expected in of_jobs.items():
        found = await catalogue.job_with_photos(owner, job_id)
        assert {photo.photo_id for photo in found.photos} == expected
        assert found.job.counts == PhotoCounts.of(photo.status for photo in found.photos), job_id
        assert all(is_terminal(photo.status) for photo in found.photos)
        assert found.job.status in JOB_ENDS, found.job
        photos |= {photo.photo_id: photo for photo in found.photos}
    listed = await catalogue.list_jobs(owner, 1000)
    assert {job.job_id for job in listed.jobs} == set(of_jobs), "a job that nobody knows"
    return photos


async def _judge_kept(evidence: Evidence, photo: Photo, content: bytes) -> list[ObjectRef]:
    """Check the object and the thumbnails of a COMPLETED photo; return these objects."""
    assert await bytes_of(evidence.objects, photo.object) == content, photo
    tenant = photo.owner.tenant
    result = (await evidence.catalogue.processing_of(tenant, [photo.node_id]))[photo.node_id]
    assert sorted(small.size for small in result.thumbnails) == sorted(evidence.sizes)
    for small in result.thumbnails:
        stored = await bytes_of(evidence.objects, small.object)
        assert len(stored) == small.size_bytes
        assert Image.open(io.BytesIO(stored)).size == (small.width, small.height)
    return [photo.object, *(small.object for small in result.thumbnails)]


async def bytes_of(objects: ObjectStore, ref: ObjectRef) -> bytes:
    info = await objects.head(ref)
    assert info is not None, f"the object {ref.key} is missing"
    return b"".join([block async for block in objects.read(ref, 0, info.size)])


def judge_events(events: Sequence[EventRecord], photos: Iterable[Photo], /) -> None:
    """Check that each change of a photo has its event, in the order of its versions.

    Repeats are allowed: delivery is at least once.
    """
    versions: defaultdict[str, list[int]] = defaultdict(list)
    known: set[str] = set()
    for record in events:
        if record.topic == PHOTOS_TOPIC and record.event_id not in known:
            known.add(record.event_id)
            versions[record.key].append(parse_record(record).header.sequence)  # type: ignore[attr-defined]
    for photo in photos:
        assert versions[photo.node_id] == list(range(1, photo.version + 1)), photo


def judge_jobs(events: Sequence[EventRecord], job_ids: Iterable[str], /) -> None:
    """Check that each job was announced once, and its end after that."""
    kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for record in events:
        if record.topic == PHOTOS_TOPIC:
            kinds[record.key].setdefault(record.event_id, record.type.rpartition(".")[2])
    for job_id in job_ids:
        names = list(kinds[job_id].values())
        assert names[0] == "UploadJobCreated", names
        assert names.count("UploadJobCreated") == 1, names
        assert names[-1] in ("UploadJobCompleted", "UploadJobCancelled"), names
