"""Catalogue contract for changes and deletions of photos."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from sluice.photos.v1 import events_pb2
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.counts import JobStatus, PhotoCounts
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.states import PhotoStatus, Reopening
from sluice_core.ports.audit import AuditFilter
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.photos import ChangedPhoto
from support.commits import TENANT
from support.photo_jobs import (
    ANN,
    BEN,
    RIVAL,
    change_photo,
    commit_object,
    create_photo,
    names_of,
    new_job,
    photo_events,
    process_object,
)
from support.processing_results import LATER, failed

S = PhotoStatus
O = Outcome  # noqa: E741


async def test_a_photo_goes_through_its_states(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await process_object(catalogue, photo)
    for target in (S.UPLOADING, S.PROCESSING, S.COMPLETED):
        (result,) = await catalogue.change_photos(
            [PhotoChange(photo.photo_id, target, taken_at=1_600_000_000.5)]
        )
        assert result.outcome is O.APPLIED
        assert result.photo == await catalogue.get_photo(ANN, photo.photo_id)
        assert result.job == await catalogue.get_job(ANN, photo.job_id)
        assert (await catalogue.get_photo(ANN, photo.photo_id)).status is target
    found = await catalogue.get_photo(ANN, photo.photo_id)
    assert found.taken_at == found.dated_at == 1_600_000_000.5
    job = await catalogue.get_job(ANN, photo.job_id)
    assert (job.status, job.finished_at) == (JobStatus.COMPLETED, job.updated_at)
    assert names_of(await photo_events(catalogue, photo.node_id)) == [
        "PhotoQueued",
        "PhotoUploadStarted",
        "PhotoUploadCompleted",
        "PhotoProcessingCompleted",
    ]
    job_events = await photo_events(catalogue, photo.job_id)
    assert names_of(job_events) == ["UploadJobCreated", "UploadJobCompleted"]
    assert isinstance(job_events[1], events_pb2.UploadJobCompleted)
    assert job_events[1].status == events_pb2.JOB_STATUS_COMPLETED


async def test_early_news_passes_the_states_between(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await process_object(catalogue, photo)
    assert await change_photo(catalogue, photo, S.COMPLETED) is O.APPLIED
    assert names_of(await photo_events(catalogue, photo.node_id))[1:] == [
        "PhotoUploadStarted",
        "PhotoUploadCompleted",
        "PhotoProcessingCompleted",
    ]
    for late in (S.UPLOADING, S.PROCESSING):
        assert await change_photo(catalogue, photo, late) is O.LATE


async def test_a_repeated_change_has_no_effect(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    outcomes = [await change_photo(catalogue, photo, S.UPLOADING) for _ in range(3)]
    assert outcomes == [O.APPLIED, O.REPEATED, O.REPEATED]
    assert (await catalogue.get_photo(ANN, photo.photo_id)).version == 2
    assert (await catalogue.get_job(ANN, photo.job_id)).version == 2
    assert len(await photo_events(catalogue)) == 3


async def test_concurrent_repeats_apply_a_change_once(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    outcomes = await asyncio.gather(
        *(change_photo(catalogue, photo, S.UPLOADING) for _ in range(8))
    )
    assert sorted(one.name for one in outcomes) == ["APPLIED"] + ["REPEATED"] * 7
    assert len(await photo_events(catalogue, photo.node_id)) == 2


async def test_a_photo_completes_only_with_a_processed_object(
    catalogue: GatewayCatalogue,
) -> None:
    photo = await create_photo(catalogue)
    assert await change_photo(catalogue, photo, S.COMPLETED) is O.UNPROCESSED
    await commit_object(catalogue, photo)
    assert await change_photo(catalogue, photo, S.COMPLETED) is O.UNPROCESSED
    await catalogue.record_processed(TENANT, photo.node_id, failed())
    assert await change_photo(catalogue, photo, S.COMPLETED) is O.UNPROCESSED
    assert await catalogue.get_photo(ANN, photo.photo_id) == photo
    await process_object(catalogue, photo)
    await catalogue.delete_node(TENANT, photo.node_id)
    assert await change_photo(catalogue, photo, S.COMPLETED) is O.UNPROCESSED


async def test_a_failed_photo_keeps_its_reason(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    assert (
        await change_photo(catalogue, photo, S.FAILED, reason="BOMB", detail="é" * 600) is O.APPLIED
    )
    found = await catalogue.get_photo(ANN, photo.photo_id)
    assert (found.status, found.reason, found.detail) == (S.FAILED, "BOMB", "é" * 512)
    assert (await catalogue.get_job(ANN, photo.job_id)).status is JobStatus.FAILED
    assert await change_photo(catalogue, photo, S.PROCESSING) is O.LATE


async def test_changes_of_many_photos_are_one_transaction(catalogue: GatewayCatalogue) -> None:
    first = await catalogue.create_job(new_job("a.jpg", "b.jpg"))
    second = await catalogue.create_job(new_job("c.jpg", owner=BEN))
    a, b, c = (photo.photo_id for photo in (*first.photos, *second.photos))
    results = await catalogue.change_photos(
        [
            PhotoChange(a, S.UPLOADING),
            PhotoChange("ph_none", S.UPLOADING),
            PhotoChange(c, S.FAILED, reason="WHY"),
            PhotoChange(a, S.FAILED, reason="WHY"),
            PhotoChange(b, S.CANCELLED),
            PhotoChange(a, S.UPLOADING),
        ]
    )
    assert [result.outcome for result in results] == [
        O.APPLIED,
        O.UNKNOWN,
        O.APPLIED,
        O.APPLIED,
        O.APPLIED,
        O.LATE,
    ]
    assert results[1] == ChangedPhoto(O.UNKNOWN)
    assert results[0].photo == results[5].photo
    job = await catalogue.get_job(ANN, first.job.job_id)
    assert (job.status, job.counts) == (
        JobStatus.COMPLETED_WITH_ERRORS,
        PhotoCounts(failed=1, cancelled=1),
    )
    assert (await catalogue.get_job(BEN, second.job.job_id)).status is JobStatus.FAILED
    assert names_of(await photo_events(catalogue, first.job.job_id)) == [
        "UploadJobCreated",
        "UploadJobCompleted",
    ]


async def test_no_changes_are_no_work(catalogue: GatewayCatalogue) -> None:
    assert list(await catalogue.change_photos([])) == []


async def test_counts_stay_right_under_concurrent_changes(catalogue: GatewayCatalogue) -> None:
    """Each photo of two jobs gets the same news several times from concurrent callers."""
    jobs = [await catalogue.create_job(new_job(*(f"{n}.jpg" for n in range(6)))) for _ in range(2)]
    photos = [photo for made in jobs for photo in made.photos]
    for photo in photos[::2]:
        await process_object(catalogue, photo)
    targets = {
        photo.photo_id: (S.FAILED, S.COMPLETED, S.CANCELLED)[number % 3]
        for number, photo in enumerate(photos)
    }
    news = [
        PhotoChange(photo.photo_id, target)
        for photo in photos
        for target in (S.UPLOADING, S.PROCESSING, targets[photo.photo_id])
    ]
    await asyncio.gather(
        *(catalogue.change_photos(news[start::4]) for start in range(4)),
        *(catalogue.change_photos(list(reversed(news[start::3]))) for start in range(3)),
    )
    for made in jobs:
        found = await catalogue.job_with_photos(ANN, made.job.job_id)
        assert found.job.counts == PhotoCounts.of(photo.status for photo in found.photos)
        for photo in found.photos:
            events = await photo_events(catalogue, photo.node_id)
            sequences = [getattr(event, "header").sequence for event in events]  # noqa: B009
            assert sequences == list(range(1, photo.version + 1))


# ------------------------------------------------------------------ owners


async def test_photos_of_others_are_not_found(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    for owner, wanted in ((BEN, photo.photo_id), (RIVAL, photo.photo_id), (ANN, "ph_none")):
        calls: list[Callable[[Owner, str], Awaitable[object]]] = [
            catalogue.get_photo,
            catalogue.delete_photo,
            lambda owner, wanted: catalogue.reopen_photo(owner, wanted, Reopening.RETRY),
            lambda owner, wanted: catalogue.add_tags(owner, wanted, ["a"]),
            lambda owner, wanted: catalogue.remove_tags(owner, wanted, ["a"]),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="PHOTO_NOT_FOUND"):
                await call(owner, wanted)
    assert await catalogue.get_photo(ANN, photo.photo_id) == photo


async def test_photos_are_found_by_their_nodes(catalogue: GatewayCatalogue) -> None:
    photo, deleted = (await catalogue.create_job(new_job("a.jpg", "b.jpg"))).photos
    await catalogue.delete_photo(ANN, deleted.photo_id)
    found = await catalogue.photos_of_nodes([photo.node_id, deleted.node_id, "none"])
    assert found.keys() == {photo.node_id, deleted.node_id}
    assert found[photo.node_id] == photo
    assert found[deleted.node_id].deleted_at is not None
    assert await catalogue.photos_of_nodes([]) == {}


# ------------------------------------------------------------------ deletion


async def test_open_photos_of_all_owners_are_paged(catalogue: GatewayCatalogue) -> None:
    """In the order of their last change, without ended photos and recent changes."""
    mine = (await catalogue.create_job(new_job("a.jpg", "b.jpg"))).photos
    others = (await catalogue.create_job(new_job("c.jpg", owner=RIVAL))).photos
    await change_photo(catalogue, mine[0], S.CANCELLED)
    await change_photo(catalogue, mine[1], S.UPLOADING)
    await change_photo(catalogue, others[0], S.PROCESSING)
    ended = (await catalogue.create_job(new_job())).photos
    await change_photo(catalogue, ended[0], S.FAILED, reason="GONE")
    later = time.time() + 60
    (first,) = await catalogue.open_photos(later, 1)
    (second,) = await catalogue.open_photos(later, 1, first)
    assert [first.photo_id, second.photo_id] == [mine[1].photo_id, others[0].photo_id]
    assert await catalogue.open_photos(later, 1, second) == []
    assert await catalogue.open_photos(mine[1].created_at, 10) == []


async def test_open_photos_of_one_moment_are_paged(catalogue: GatewayCatalogue) -> None:
    """The photos of a job have one time of creation."""
    made = (await catalogue.create_job(new_job(*(f"{n}.jpg" for n in range(5))))).photos
    found: list[str] = []
    page = await catalogue.open_photos(time.time() + 60, 2)
    while page:
        found += [photo.photo_id for photo in page]
        page = await catalogue.open_photos(time.time() + 60, 2, page[-1])
    assert found == sorted(photo.photo_id for photo in made)


async def test_photos_of_contradicting_nodes_are_found(catalogue: GatewayCatalogue) -> None:
    """Slice by slice, and no others."""
    names = [f"{number}.jpg" for number in range(12)]
    photos = list((await catalogue.create_job(new_job(*names))).photos)
    wanted: list[str] = []

    async def take(status: PhotoStatus, *, reason: str = "", has_node: bool, found: bool) -> Photo:
        photo = photos.pop()
        if status is S.COMPLETED:
            await process_object(catalogue, photo)
        await change_photo(catalogue, photo, status, reason=reason)
        if has_node and status is not S.COMPLETED:
            await commit_object(catalogue, photo)
        if not has_node and status is S.COMPLETED:
            await catalogue.delete_node(TENANT, photo.node_id)
        if found:
            wanted.append(photo.photo_id)
        return photo

    await take(S.CANCELLED, has_node=True, found=True)
    await take(S.CANCELLED, has_node=False, found=False)
    await take(S.COMPLETED, has_node=False, found=True)
    await take(S.COMPLETED, has_node=True, found=False)
    await take(S.FAILED, reason="NOT_ARRIVED", has_node=True, found=True)
    await take(S.FAILED, reason="NOT_ARRIVED", has_node=False, found=False)
    await take(S.FAILED, reason="TOO_LARGE", has_node=True, found=False)
    await take(S.PROCESSING, has_node=True, found=False)
    deleted = await take(S.FAILED, reason="UPLOAD_EXPIRED", has_node=False, found=True)
    await catalogue.delete_photo(ANN, deleted.photo_id)
    await commit_object(catalogue, deleted)
    gone = await take(S.COMPLETED, has_node=True, found=False)
    await catalogue.delete_photo(ANN, gone.photo_id)

    found: list[str] = []
    after, slices = "", 0
    while True:
        part = await catalogue.contradicted_photos(5, after)
        found += [photo.photo_id for photo in part.photos]
        slices += 1
        if not (after := part.next_after):
            break
    assert found == sorted(wanted)
    assert slices == 3


async def test_a_deleted_photo_goes_with_its_object(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await process_object(catalogue, photo)
    await change_photo(catalogue, photo, S.COMPLETED)
    await catalogue.add_tags(ANN, photo.photo_id, ["b", "a"])
    before = await catalogue.get_photo(ANN, photo.photo_id)
    entry = AuditEntry(TENANT, "ann", "DeletePhoto", f"photo/{photo.photo_id}")
    assert await catalogue.delete_photo(ANN, photo.photo_id, audit=entry) == before
    with pytest.raises(NotFound, match="PHOTO_NOT_FOUND"):
        await catalogue.get_photo(ANN, photo.photo_id)
    with pytest.raises(NotFound, match="PHOTO_NOT_FOUND"):
        await catalogue.delete_photo(ANN, photo.photo_id, audit=entry)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node(TENANT, photo.node_id)
    assert not (await catalogue.list_photos(ANN, 10)).photos
    assert not (await catalogue.list_tags(ANN, 10)).tags
    due = {one.object for one in await catalogue.deletions_due(time.time() + LATER, 10)}
    assert photo.object in due
    assert len(due) == 3, "the content and two thumbnails"
    found = await catalogue.job_with_photos(ANN, photo.job_id)
    assert found.job.counts == PhotoCounts(completed=1)
    assert found.photos[0].deleted_at is not None
    assert names_of(await photo_events(catalogue, photo.node_id))[-2:] == [
        "PhotoTagsChanged",
        "PhotoDeleted",
    ]
    assert len((await catalogue.list_audit(TENANT, 10, None, AuditFilter())).entries) == 1


async def test_a_deleted_open_photo_is_cancelled(catalogue: GatewayCatalogue) -> None:
    """The URL that was signed for it may still bring the object, which then goes too."""
    photo = await create_photo(catalogue)
    await change_photo(catalogue, photo, S.UPLOADING)
    await catalogue.delete_photo(ANN, photo.photo_id)
    job = await catalogue.get_job(ANN, photo.job_id)
    assert (job.status, job.counts) == (JobStatus.CANCELLED, PhotoCounts(cancelled=1))
    assert names_of(await photo_events(catalogue))[-3:] == [
        "PhotoCancelled",
        "PhotoDeleted",
        "UploadJobCancelled",
    ]
    now = await catalogue.now()
    assert not await catalogue.deletions_due(now, 10)
    (due,) = await catalogue.deletions_due(now + LATER, 10)
    assert due.object == photo.object
    assert await change_photo(catalogue, photo, S.PROCESSING) is O.LATE


async def test_a_cancelled_photo_loses_its_node(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await commit_object(catalogue, photo)
    await change_photo(catalogue, photo, S.PROCESSING)
    assert await change_photo(catalogue, photo, S.CANCELLED) is O.APPLIED
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node(TENANT, photo.node_id)
    (due,) = await catalogue.deletions_due(await catalogue.now() + LATER, 10)
    assert due.object == photo.object


async def test_photo_can_become_another_node(catalogue: GatewayCatalogue) -> None:
    """The node of an upload that began for it; from then on its news lead to the photo."""
    photo = await create_photo(catalogue)
    with pytest.raises(NotFound, match="no photo"):
        await catalogue.assign_node(BEN, photo.photo_id, "other-node")
    for _ in range(2):
        moved = await catalogue.assign_node(ANN, photo.photo_id, "other-node")
        assert moved == await catalogue.get_photo(ANN, photo.photo_id)
        assert (moved.node_id, moved.status) == ("other-node", S.UPLOADING)
        assert moved.object.bucket == photo.object.bucket
        assert moved.object.key == photo.object.key.replace(photo.node_id, "other-node")
        assert (await catalogue.get_job(ANN, photo.job_id)).counts.uploading == 1
    assert names_of(await photo_events(catalogue, "other-node")) == ["PhotoUploadStarted"]
    found = await catalogue.photos_of_nodes([photo.node_id, "other-node"])
    assert set(found) == {"other-node"}
    await process_object(catalogue, moved)
    assert await change_photo(catalogue, moved, S.COMPLETED) is O.APPLIED
    with pytest.raises(FailedPrecondition, match="COMPLETED"):
        await catalogue.assign_node(ANN, photo.photo_id, "third-node")
