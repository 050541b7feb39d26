"""Catalogue contract for upload jobs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from unittest import mock

import pytest

from sluice.photos.v1 import events_pb2
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import AlreadyExists, NotFound
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.counts import JobStatus, PhotoCounts
from sluice_core.photos.model import MAX_JOB_PHOTOS, UploadJob
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.audit import AuditFilter
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.upload_jobs import JobCursor
from support.commits import TENANT
from support.photo_jobs import (
    ANN,
    BEN,
    RIVAL,
    counted,
    names_of,
    new_job,
    photo_events,
    process_object,
)
from support.processing_results import LATER
from support.statements import recording_statements

S = PhotoStatus
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_created_job_is_read_as_it_was_answered(catalogue: GatewayCatalogue) -> None:
    made = await catalogue.create_job(new_job("a.jpg", "a.jpg", "日本 \U0001f3d6.heic"))
    assert made.created
    assert made.job.status is JobStatus.QUEUED
    assert (made.job.counts, made.job.total_bytes) == (PhotoCounts(queued=3), 30)
    assert [photo.filename for photo in made.photos] == [
        "a.jpg",
        "a (2).jpg",
        "日本 \U0001f3d6.heic",
    ]
    assert await catalogue.get_job(ANN, made.job.job_id) == made.job
    assert await catalogue.job_with_photos(ANN, made.job.job_id) == replace(made, created=False)
    for photo in made.photos:
        assert await catalogue.get_photo(ANN, photo.photo_id) == photo


async def test_a_job_and_each_photo_have_an_event(catalogue: GatewayCatalogue) -> None:
    made = await catalogue.create_job(new_job("a.jpg", "b.jpg", trace_parent=TRACE))
    events = await photo_events(catalogue)
    assert names_of(events) == ["UploadJobCreated", "PhotoQueued", "PhotoQueued"]
    created, *queued = events
    assert isinstance(created, events_pb2.UploadJobCreated)
    assert (created.job_id, created.total_count) == (made.job.job_id, 2)
    assert [getattr(event, "node_id") for event in queued] == [  # noqa: B009
        photo.node_id for photo in made.photos
    ]
    rows = await catalogue.outbox(10)
    assert {row.event.headers["traceparent"] for row in rows} == {TRACE}


async def test_a_repeated_creation_returns_the_first_one(catalogue: GatewayCatalogue) -> None:
    """Even of concurrent calls: one creates the job, and all answer its photos."""
    job_id = new_job().job_id
    answers = await asyncio.gather(
        *(catalogue.create_job(new_job("a.jpg", job_id=job_id)) for _ in range(5))
    )
    assert sorted(answer.created for answer in answers) == [False] * 4 + [True]
    assert len({answer.photos for answer in answers}) == 1
    assert len(await photo_events(catalogue)) == 2


async def test_a_job_id_of_another_owner_is_refused(catalogue: GatewayCatalogue) -> None:
    new = new_job()
    await catalogue.create_job(new)
    with pytest.raises(AlreadyExists, match="JOB_EXISTS"):
        await catalogue.create_job(new_job(owner=BEN, job_id=new.job_id))


async def test_a_job_of_the_most_photos_is_created_whole(catalogue: GatewayCatalogue) -> None:
    made = await catalogue.create_job(new_job(*(f"{n}.jpg" for n in range(MAX_JOB_PHOTOS))))
    found = await catalogue.job_with_photos(ANN, made.job.job_id)
    assert found.photos == made.photos
    assert [photo.position for photo in found.photos] == list(range(MAX_JOB_PHOTOS))
    assert len(await photo_events(catalogue)) == MAX_JOB_PHOTOS + 1


async def test_jobs_of_others_are_not_found(catalogue: GatewayCatalogue) -> None:
    job_id = (await catalogue.create_job(new_job())).job.job_id
    for owner, wanted in ((BEN, job_id), (RIVAL, job_id), (ANN, "job_none")):
        for call in (catalogue.get_job, catalogue.job_with_photos, catalogue.cancel_job):
            with pytest.raises(NotFound, match="JOB_NOT_FOUND"):
                await call(owner, wanted)
    assert (await catalogue.get_job(ANN, job_id)).status is JobStatus.QUEUED


async def test_versions_of_many_jobs_are_read_at_once(catalogue: GatewayCatalogue) -> None:
    jobs = [(await catalogue.create_job(new_job(owner=owner))).job for owner in (ANN, RIVAL)]
    ids = [job.job_id for job in jobs]
    before = await catalogue.job_versions(ids)
    assert before == {job.job_id: job.version for job in jobs}
    await catalogue.cancel_job(ANN, ids[0])
    after = await catalogue.job_versions([*ids, "job_unknown"])
    assert after == {ids[0]: (await catalogue.get_job(ANN, ids[0])).version, ids[1]: before[ids[1]]}
    assert after[ids[0]] > before[ids[0]]
    assert await catalogue.job_versions([]) == {}


async def test_jobs_are_listed_newest_first_page_by_page(catalogue: GatewayCatalogue) -> None:
    made = [(await catalogue.create_job(new_job())).job for _ in range(5)]
    await catalogue.create_job(new_job(owner=BEN))
    await catalogue.create_job(new_job(owner=RIVAL))
    expected = sorted(made, key=lambda job: (job.created_at, job.job_id), reverse=True)
    found: list[UploadJob] = []
    after: JobCursor | None = None
    while True:
        page = await catalogue.list_jobs(ANN, 2, after)
        found += page.jobs
        after = page.next_after
        if after is None:
            break
        assert len(page.jobs) == 2
    assert found == expected
    skipped = await catalogue.list_jobs(ANN, 2, skip=2)
    assert list(skipped.jobs) == expected[2:4]
    last = await catalogue.list_jobs(ANN, 2, skip=4)
    assert (list(last.jobs), last.next_after) == (expected[4:], None)


async def test_jobs_are_listed_by_status(catalogue: GatewayCatalogue) -> None:
    waiting, begun, ended = [await catalogue.create_job(new_job()) for _ in range(3)]
    await catalogue.change_photos([PhotoChange(begun.photos[0].photo_id, S.UPLOADING)])
    await catalogue.cancel_job(ANN, ended.job.job_id)
    for made, status in (
        (waiting, JobStatus.QUEUED),
        (begun, JobStatus.IN_PROGRESS),
        (ended, JobStatus.CANCELLED),
    ):
        page = await catalogue.list_jobs(ANN, 10, status=status)
        assert [job.job_id for job in page.jobs] == [made.job.job_id]
        assert page.jobs[0].status is status
    assert not (await catalogue.list_jobs(ANN, 10, status=JobStatus.FAILED)).jobs


async def test_a_cancelled_job_cancels_its_open_photos(catalogue: GatewayCatalogue) -> None:
    made = await catalogue.create_job(new_job("a.jpg", "b.jpg", "c.jpg"))
    first, second, third = made.photos
    await process_object(catalogue, first)
    await catalogue.change_photos(
        [PhotoChange(first.photo_id, S.COMPLETED), PhotoChange(second.photo_id, S.UPLOADING)]
    )
    entry = AuditEntry(TENANT, "ann", "CancelJob", f"job/{made.job.job_id}")
    cancelled = await catalogue.cancel_job(ANN, made.job.job_id, audit=entry)
    assert {photo.photo_id for photo in cancelled} == {second.photo_id, third.photo_id}
    assert {photo.status for photo in cancelled} == {S.CANCELLED}
    job = await catalogue.get_job(ANN, made.job.job_id)
    assert (job.status, job.counts) == (
        JobStatus.COMPLETED,
        PhotoCounts(completed=1, cancelled=2),
    )
    assert await catalogue.cancel_job(ANN, made.job.job_id, audit=entry) == []
    assert await catalogue.get_job(ANN, made.job.job_id) == job
    assert len((await catalogue.list_audit(TENANT, 10, None, AuditFilter())).entries) == 1


async def test_a_large_job_is_read_in_slices(catalogue: GatewayCatalogue) -> None:
    """Its rows take a tenth of a millisecond each, and nothing blocks the loop for ten."""
    made = await catalogue.create_job(new_job(*[f"{number}.jpg" for number in range(500)]))
    with mock.patch.object(asyncio, "sleep", wraps=asyncio.sleep) as sleep:
        found = await catalogue.job_with_photos(ANN, made.job.job_id)
        assert sleep.call_args_list.count(mock.call(0)) >= 9
        await catalogue.cancel_job(ANN, made.job.job_id)
        assert sleep.call_args_list.count(mock.call(0)) >= 18
    assert found.photos == made.photos


@pytest.mark.parametrize("are_stored", [False, True], ids=["awaited", "stored"])
async def test_statements_of_a_cancel_do_not_grow(
    catalogue: GatewayCatalogue, are_stored: bool
) -> None:
    """Only the locks of nodes are taken one by one, where the database needs them."""
    counts, locks = [], []
    for size in (2, 20):
        made = await catalogue.create_job(new_job(*[f"{number}.jpg" for number in range(size)]))
        for photo in made.photos if are_stored else ():
            await process_object(catalogue, photo)
        with recording_statements() as sent:
            await catalogue.cancel_job(ANN, made.job.job_id)
        counts.append(sum("FOR UPDATE" not in one for one in sent))
        locks.append(sum("FOR UPDATE" in one for one in sent))
        assert len(await catalogue.deletions_due(time.time() + LATER, 1000)) >= size
        found = await catalogue.candidates([photo.node_id for photo in made.photos])
        assert list(found) == []
    assert counts[0] == counts[1], "statements depend on the number of photos"
    # That of the job, then the path and the row of each node.
    assert locks in ([0, 0], [1 + 4 * are_stored, 1 + 40 * are_stored])


async def test_a_job_ends_with_one_event_after_its_photos(catalogue: GatewayCatalogue) -> None:
    made = await catalogue.create_job(new_job("a.jpg", "b.jpg"))
    await catalogue.cancel_job(ANN, made.job.job_id)
    await catalogue.cancel_job(ANN, made.job.job_id)
    assert counted(names_of(await photo_events(catalogue))) == [
        ("UploadJobCreated", 1),
        ("PhotoQueued", 2),
        ("PhotoCancelled", 2),
        ("UploadJobCancelled", 1),
    ]
    job = await catalogue.get_job(ANN, made.job.job_id)
    assert job.finished_at == job.updated_at
    assert job.version == 2


async def test_open_photos_are_counted_for_all_owners(catalogue: GatewayCatalogue) -> None:
    """Those of ended jobs and photos that have ended are none of them."""
    before = await catalogue.count_open_photos()
    jobs = [
        await catalogue.create_job(new_job("a.jpg", "b.jpg", "c.jpg", owner=owner))
        for owner in (ANN, RIVAL)
    ]
    first, second, third = jobs[0].photos
    await catalogue.change_photos(
        [
            PhotoChange(first.photo_id, S.UPLOADING),
            PhotoChange(second.photo_id, S.PROCESSING),
            PhotoChange(third.photo_id, S.FAILED),
        ]
    )
    counted = await catalogue.count_open_photos()
    assert counted.arriving - before.arriving == 4
    assert counted.processing - before.processing == 1
    for job in jobs:
        await catalogue.cancel_job(job.job.owner, job.job.job_id)
    assert await catalogue.count_open_photos() == before
    assert catalogue.connection_wait_seconds() >= 0.0
