"""Catalogue contract for attempts of photos and their multipart uploads."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.events.registry import parse_record
from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.counts import JobStatus
from sluice_core.photos.states import PhotoStatus, Reopening
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.photos import UploadPart
from support.commits import TENANT
from support.photo_jobs import (
    ANN,
    change_photo,
    commit_object,
    create_photo,
    names_of,
    photo_events,
    process_object,
)

S = PhotoStatus
O = Outcome  # noqa: E741


async def test_a_retried_photo_starts_again(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await catalogue.set_multipart(photo.photo_id, 1, "m-1")
    await catalogue.record_upload_parts(photo.photo_id, 1, [UploadPart(1, 5, "e")])
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    result = await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
    assert result.outcome is O.APPLIED
    assert result.photo == await catalogue.get_photo(ANN, photo.photo_id)
    assert result.job == await catalogue.get_job(ANN, photo.job_id)
    assert result.photo is not None
    assert result.job is not None
    assert (result.photo.status, result.photo.attempt) == (S.QUEUED, 2)
    assert (result.photo.reason, result.photo.multipart_id) == ("", "")
    assert (result.job.status, result.job.finished_at) == (JobStatus.QUEUED, None)
    assert not await catalogue.recorded_bytes([photo.photo_id])
    again = await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
    assert (again.outcome, again.photo) == (O.REPEATED, result.photo)
    assert names_of(await photo_events(catalogue, photo.node_id)) == [
        "PhotoQueued",
        "PhotoFailed",
        "PhotoQueued",
    ]


async def test_late_news_of_a_former_attempt_is_ignored(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
    assert await change_photo(catalogue, photo, S.FAILED, attempt=1, reason="WHY") is O.LATE
    assert await change_photo(catalogue, photo, S.FAILED, attempt=2, reason="WHY") is O.APPLIED
    ends = [
        name
        for name in names_of(await photo_events(catalogue, photo.job_id))
        if name == "UploadJobCompleted"
    ]
    assert len(ends) == 2


async def test_only_a_photo_without_a_node_is_uploaded_again(
    catalogue: GatewayCatalogue,
) -> None:
    """A node id is never committed twice (rule 19)."""
    photo = await create_photo(catalogue)
    await commit_object(catalogue, photo)
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    with pytest.raises(FailedPrecondition, match="OBJECT_EXISTS"):
        await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)


@pytest.mark.parametrize("how", list(Reopening))
async def test_photo_of_a_deleted_object_needs_a_new_job(
    catalogue: GatewayCatalogue, how: Reopening
) -> None:
    """No command leads on, so none names the other one."""
    photo = await create_photo(catalogue)
    await commit_object(catalogue, photo)
    await change_photo(catalogue, photo, S.FAILED, reason="NOT_ARRIVED")
    await catalogue.delete_node(TENANT, photo.node_id)
    with pytest.raises(FailedPrecondition, match="OBJECT_DELETED"):
        await catalogue.reopen_photo(ANN, photo.photo_id, how)


async def test_late_object_reopens_its_photo(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await change_photo(catalogue, photo, S.FAILED, reason="NOT_ARRIVED")
    with pytest.raises(FailedPrecondition, match="OBJECT_MISSING"):
        await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.ARRIVED)
    await commit_object(catalogue, photo)
    for outcome in (O.APPLIED, O.REPEATED):
        result = await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.ARRIVED)
        assert result.outcome is outcome
        assert result.photo == await catalogue.get_photo(ANN, photo.photo_id)
        assert result.photo.status is S.PROCESSING


async def test_new_urls_give_a_photo_its_whole_time(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await catalogue.keep_awaiting(photo.photo_id, 1)
    found = await catalogue.get_photo(ANN, photo.photo_id)
    assert found.asked_at > photo.asked_at
    assert (found.version, found.updated_at) == (photo.version, photo.updated_at)
    assert not await catalogue.open_photos(1e10, 10, asked_before=found.asked_at)
    assert await catalogue.open_photos(1e10, 10, asked_before=found.asked_at + 1e-6) == [found]
    # A sweeper that had read the photo before.
    end = PhotoChange(photo.photo_id, S.FAILED, reason="NOT_ARRIVED", asked_before=found.asked_at)
    assert [each.outcome for each in await catalogue.change_photos([end])] == [O.LATE]


async def test_ended_attempt_is_not_awaited(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    with pytest.raises(NotFound, match="PHOTO_NOT_FOUND"):
        await catalogue.keep_awaiting("ph_none", 1)
    with pytest.raises(FailedPrecondition, match="PHOTO_ENDED"):
        await catalogue.keep_awaiting(photo.photo_id, 2)
    await change_photo(catalogue, photo, S.PROCESSING)
    with pytest.raises(FailedPrecondition, match="PHOTO_ENDED"):
        await catalogue.keep_awaiting(photo.photo_id, 1)


async def test_changes_do_not_move_the_start_of_an_attempt(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    again = (await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)).photo
    assert again is not None
    await catalogue.add_tags(ANN, photo.photo_id, ["a"])
    await change_photo(catalogue, photo, S.PROCESSING)
    now = await catalogue.get_photo(ANN, photo.photo_id)
    assert photo.attempt_started_at < again.attempt_started_at == now.attempt_started_at
    assert now.updated_at > again.updated_at


async def test_only_a_photo_with_an_object_is_processed_again(
    catalogue: GatewayCatalogue,
) -> None:
    photo = await create_photo(catalogue)
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    with pytest.raises(FailedPrecondition, match="OBJECT_MISSING"):
        await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.REPROCESS)
    await process_object(catalogue, photo)
    result = await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.REPROCESS)
    assert result.photo is not None
    assert (result.photo.status, result.photo.attempt) == (S.PROCESSING, 2)
    assert await change_photo(catalogue, photo, S.COMPLETED) is O.APPLIED


async def test_each_call_of_reprocess_writes_a_request(catalogue: GatewayCatalogue) -> None:
    """In the transaction of the photo, so that none is lost; consumers drop equal ids."""
    photo = await create_photo(catalogue)
    await process_object(catalogue, photo)
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    outcomes = [
        await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.REPROCESS, trace_parent=trace)
        for _ in range(2)
    ]
    assert [result.outcome for result in outcomes] == [O.APPLIED, O.REPEATED]
    rows = [row.event for row in await catalogue.outbox(1000)]
    asked = [event for event in rows if event.type == "sluice.events.v1.ProcessingRequested"]
    assert {(one.topic, one.key, one.tenant) for one in asked} == {
        ("sluice.uploads.v1", photo.node_id, TENANT)
    }
    assert len({one.event_id for one in asked}) == 2
    assert {one.headers["traceparent"] for one in asked} == {trace}
    for event in asked:
        parse_record(event)


async def test_retry_requests_no_processing(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
    assert not [
        row for row in await catalogue.outbox(1000) if "ProcessingRequested" in row.event.type
    ]


async def test_the_first_multipart_of_an_attempt_stays(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    answers = await asyncio.gather(
        *(catalogue.set_multipart(photo.photo_id, 1, f"m-{n}") for n in range(5))
    )
    assert len(set(answers)) == 1
    found = await catalogue.get_photo(ANN, photo.photo_id)
    assert (found.multipart_id, found.version) == (answers[0], 1)


async def test_recorded_parts_replace_former_ones(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await catalogue.record_upload_parts(
        photo.photo_id, 1, [UploadPart(2, 6, "b"), UploadPart(1, 5, "a")]
    )
    await catalogue.record_upload_parts(photo.photo_id, 1, [UploadPart(2, 7, "c")])
    await catalogue.record_upload_parts(photo.photo_id, 1, [])
    other = await create_photo(catalogue)
    found = await catalogue.recorded_bytes([photo.photo_id, other.photo_id])
    assert found == {photo.photo_id: 12}
    assert await catalogue.recorded_bytes([]) == {}


async def test_parts_are_forgotten_with_the_upload(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    await catalogue.record_upload_parts(photo.photo_id, 1, [UploadPart(1, 5, "a")])
    await change_photo(catalogue, photo, S.UPLOADING)
    assert await catalogue.recorded_bytes([photo.photo_id]) == {photo.photo_id: 5}
    await change_photo(catalogue, photo, S.PROCESSING)
    assert not await catalogue.recorded_bytes([photo.photo_id])


async def test_an_ended_upload_takes_no_parts(catalogue: GatewayCatalogue) -> None:
    photo = await create_photo(catalogue)
    with pytest.raises(FailedPrecondition, match="PHOTO_ENDED"):
        await catalogue.set_multipart(photo.photo_id, 2, "m-2")
    with pytest.raises(NotFound, match="PHOTO_NOT_FOUND"):
        await catalogue.set_multipart("ph_none", 1, "m-2")
    await change_photo(catalogue, photo, S.FAILED, reason="WHY")
    with pytest.raises(FailedPrecondition, match="PHOTO_ENDED"):
        await catalogue.set_multipart(photo.photo_id, 1, "m-2")
    with pytest.raises(FailedPrecondition, match="PHOTO_ENDED"):
        await catalogue.record_upload_parts(photo.photo_id, 1, [UploadPart(1, 5, "a")])
