"""Events of photos and upload jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.photos.v1 import events_pb2
from sluice_core.events import photos as events
from sluice_core.events.registry import EVENT_TYPES, BadEvent, parse_record
from sluice_core.photos.counts import PhotoCounts
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import PhotoStatus
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.ports.event_publisher import EVENT_TOPIC_PREFIXES, PHOTOS_TOPIC, EventRecord
from sluice_core.uploads.model import ObjectRef

OWNER = Owner("acme", "ann")
PHOTO = Photo(
    photo_id="ph_1",
    job_id="job_1",
    position=0,
    owner=OWNER,
    node_id="node-1",
    drive="photos",
    path="job_1/a.jpg",
    object=ObjectRef("bucket", "acme/photos/node-1"),
    filename="a.jpg",
    content_type="image/jpeg",
    size=10,
    status=PhotoStatus.QUEUED,
    created_at=1.0,
    updated_at=2.5,
    attempt_started_at=1.0,
    asked_at=1.0,
    version=7,
)
JOB = UploadJob(
    job_id="job_1",
    owner=OWNER,
    drive="photos",
    strategy=UploadStrategy.S3_PRESIGNED,
    counts=PhotoCounts(queued=3),
    total_bytes=30,
    created_at=1.0,
    updated_at=2.5,
    version=4,
)
OF_STATUS: dict[PhotoStatus, Any] = {
    PhotoStatus.QUEUED: events_pb2.PhotoQueued,
    PhotoStatus.UPLOADING: events_pb2.PhotoUploadStarted,
    PhotoStatus.PROCESSING: events_pb2.PhotoUploadCompleted,
    PhotoStatus.COMPLETED: events_pb2.PhotoProcessingCompleted,
    PhotoStatus.FAILED: events_pb2.PhotoFailed,
    PhotoStatus.CANCELLED: events_pb2.PhotoCancelled,
}
ALL = [
    events.job_created(JOB),
    events.job_ended(replace(JOB, counts=PhotoCounts(completed=3))),
    events.job_ended(replace(JOB, counts=PhotoCounts(cancelled=3))),
    *(events.photo_entered(replace(PHOTO, status=status)) for status in PhotoStatus),
    events.photo_tags_changed(PHOTO, ["a", "b"]),
    events.photo_deleted(PHOTO),
]


def test_every_event_of_the_package_is_built_and_registered() -> None:
    built = {event.type for event in ALL}
    assert built == {name for name in EVENT_TYPES if name.startswith("sluice.photos.v1.")}
    assert len(built) == len(ALL) == 11


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.type)
def test_envelope_and_payload_of_an_event_agree(event: EventRecord) -> None:
    message = parse_record(event)
    assert (event.topic, event.tenant, event.occurred_at) == (PHOTOS_TOPIC, "acme", 2.5)
    for forged in (
        replace(event, key="other"),
        replace(event, tenant="rival"),
        replace(event, event_id="another"),
    ):
        with pytest.raises(BadEvent, match="the event's"):
            parse_record(forged)
    assert PHOTOS_TOPIC.startswith(EVENT_TOPIC_PREFIXES)
    assert message.SerializeToString(deterministic=True) == event.payload


@pytest.mark.parametrize("status", list(PhotoStatus))
def test_a_status_has_an_event_that_is_keyed_by_the_node(status: PhotoStatus) -> None:
    photo = replace(PHOTO, status=status, attempt=2)
    event = events.photo_entered(photo, trace_parent="00-a-b-01")
    message: Any = parse_record(event)
    assert message.DESCRIPTOR is OF_STATUS[status].DESCRIPTOR
    assert (event.key, event.headers) == ("node-1", {"traceparent": "00-a-b-01"})
    assert message.photo == events_pb2.PhotoRef(
        photo_id="ph_1",
        job_id="job_1",
        user_id="ann",
        drive="photos",
        path="job_1/a.jpg",
        attempt=2,
    )
    assert message.header.sequence == 7


def test_events_carry_what_their_readers_need() -> None:
    queued = parse_record(events.photo_entered(PHOTO))
    assert isinstance(queued, events_pb2.PhotoQueued)
    assert (queued.filename, queued.content_type, queued.size) == ("a.jpg", "image/jpeg", 10)
    failed = parse_record(
        events.photo_entered(
            replace(PHOTO, status=PhotoStatus.FAILED, reason="BOMB", detail="too large")
        )
    )
    assert isinstance(failed, events_pb2.PhotoFailed)
    assert (failed.reason, failed.detail) == ("BOMB", "too large")
    tagged = parse_record(events.photo_tags_changed(PHOTO, ["a", "b"]))
    assert isinstance(tagged, events_pb2.PhotoTagsChanged)
    assert list(tagged.tags) == ["a", "b"]


def test_a_completed_photo_says_when_it_was_taken_if_known() -> None:
    completed = replace(PHOTO, status=PhotoStatus.COMPLETED)
    known = parse_record(events.photo_entered(replace(completed, taken_at=0.5)))
    unknown = parse_record(events.photo_entered(completed))
    assert isinstance(known, events_pb2.PhotoProcessingCompleted)
    assert isinstance(unknown, events_pb2.PhotoProcessingCompleted)
    assert (known.taken_at.nanos, unknown.HasField("taken_at")) == (500_000_000, False)


def test_a_job_tells_its_size_and_how_it_ended() -> None:
    created = parse_record(events.job_created(JOB))
    assert isinstance(created, events_pb2.UploadJobCreated)
    assert (created.total_count, created.total_bytes, created.strategy) == (3, 30, "s3-presigned")
    ended = parse_record(events.job_ended(replace(JOB, counts=PhotoCounts(completed=2, failed=1))))
    assert isinstance(ended, events_pb2.UploadJobCompleted)
    assert ended.status == events_pb2.JOB_STATUS_COMPLETED_WITH_ERRORS
    assert (ended.counts.completed, ended.counts.failed) == (2, 1)
    assert events.job_created(JOB).key == "job_1"


def test_ids_are_stable_and_differ_by_version() -> None:
    """A repeated publication is recognized; a second failure of the photo is another event."""
    failed = replace(PHOTO, status=PhotoStatus.FAILED)
    once, again = events.photo_entered(failed), events.photo_entered(failed)
    later = events.photo_entered(replace(failed, version=9))
    assert once.event_id == again.event_id != later.event_id
