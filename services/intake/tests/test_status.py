"""Status, watch, list, completion and abort."""

from __future__ import annotations

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc import servicer as rpc
from support.intake import Intake, refusal, running_intake
from support.part_worker import working_for


async def test_status_lists_missing_chunks() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate("a/b.txt", expected_size=6)
        for number in (0, 2, 5):
            await intake.send(upload.upload_id, number, b"x")
        status = await intake.status(upload.upload_id)
        assert (status.drive, status.path, status.node_id) == ("photos", "a/b.txt", upload.node_id)
        assert status.state == pb.UPLOAD_STATE_UPLOADING
        assert [(gap.first, gap.last) for gap in status.missing] == [(1, 1), (3, 4)]
        assert not status.missing_truncated
        assert (status.received_chunks, status.received_bytes, status.expected_size) == (3, 3, 6)
        assert not status.HasField("total_chunks")


async def test_status_alone_has_the_metadata() -> None:
    """Up to 8 KiB that never change: not in the answers that are pushed or listed."""
    async with running_intake() as intake:
        upload = await intake.initiate(metadata={"filename": "a.jpg", "empty": ""})
        status = await intake.status(upload.upload_id)
        assert dict(status.metadata) == {"filename": "a.jpg", "empty": ""}
        assert dict((await intake.abort(upload.upload_id)).metadata) == {}


async def test_long_list_of_gaps_is_truncated() -> None:
    async with running_intake(IntakeOptions(max_missing_ranges=2)) as intake:
        upload = await intake.initiate()
        for number in (1, 3, 5):
            await intake.send(upload.upload_id, number, b"x")
        status = await intake.status(upload.upload_id)
        assert [(gap.first, gap.last) for gap in status.missing] == [(0, 0), (2, 2)]
        assert status.missing_truncated


# ------------------------------------------------------------------ completion


async def test_completion_returns_at_once_unless_asked_to_wait() -> None:
    async with running_intake() as intake:  # no worker completes the upload
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"all of it", is_last=True)
        status = await intake.complete(upload.upload_id)
        assert status.state == pb.UPLOAD_STATE_COMPLETING
        assert status.total_chunks == 1


async def test_a_wait_ends_with_the_upload() -> None:
    async with running_intake() as intake, working_for(intake):
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"all of it")
        async with asyncio.timeout(30):
            status = await intake.complete(
                upload.upload_id, total_chunks=1, crc32c=crc32c(b"all of it"), wait={"seconds": 60}
            )
        assert status.state == pb.UPLOAD_STATE_COMPLETED
        repeated = await intake.complete(upload.upload_id, total_chunks=1, wait={"seconds": 60})
        assert repeated == status


async def test_expired_wait_returns_the_current_state() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"all of it")
        began = time.monotonic()
        status = await intake.complete(
            upload.upload_id, total_chunks=1, wait={"nanos": 300_000_000}
        )
        assert 0.25 < time.monotonic() - began < 30
        assert status.state == pb.UPLOAD_STATE_COMPLETING


async def test_a_wait_answers_before_the_deadline_of_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc, "_RESPONSE_RESERVE_SECONDS", 20.0)  # slow machines
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"all of it")
        request = pb.CompleteUploadRequest(
            upload_id=upload.upload_id, total_chunks=1, wait=Duration(seconds=60)
        )
        response = await intake.stub.CompleteUpload(request, timeout=20.5)
        assert response.status.state == pb.UPLOAD_STATE_COMPLETING


async def test_claims_that_contradict_each_other_are_refused() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate(crc32c=crc32c(b"claimed"))
        await intake.send(upload.upload_id, 0, b"sent")
        error = await refusal(
            intake.complete(upload.upload_id, total_chunks=1, crc32c=crc32c(b"sent"))
        )
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "CLAIM_MISMATCH")


@pytest.mark.rule(3)
async def test_upload_without_chunks_completes_as_an_empty_object() -> None:
    async with running_intake() as intake, working_for(intake) as worker:
        upload = await intake.initiate()
        status = await intake.complete(upload.upload_id, total_chunks=0, wait={"seconds": 10})
        assert status.state == pb.UPLOAD_STATE_COMPLETED
        assert worker.object_of(upload.upload_id) == b""


async def test_abort_is_idempotent_and_final() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"x")
        first = await intake.abort(upload.upload_id)
        assert first.state == pb.UPLOAD_STATE_ABORTED
        assert await intake.abort(upload.upload_id) == first
        assert not first.missing
        error = await refusal(intake.send(upload.upload_id, 1, b"y"))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "UPLOAD_ENDED")


@pytest.mark.rule(18)
async def test_abort_during_completion_is_refused() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"x")
        await intake.complete(upload.upload_id, total_chunks=1)
        error = await refusal(intake.abort(upload.upload_id))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "UPLOAD_COMPLETING")


# ------------------------------------------------------------------ watch


@pytest.mark.rule(27)
async def test_watch_starts_with_current_state_and_ends_with_upload() -> None:
    async with running_intake(IntakeOptions(watch_interval_seconds=0.01)) as intake:
        upload = await intake.initiate()
        watch = intake.watch(upload.upload_id)
        seen = [await anext(watch)]
        assert seen[0].state == pb.UPLOAD_STATE_PENDING
        await intake.send(upload.upload_id, 0, b"x")
        seen.append(await anext(watch))
        await intake.abort(upload.upload_id)
        async with asyncio.timeout(30):
            seen += [status async for status in watch]
        sequences = [status.sequence for status in seen]
        assert sequences == sorted(set(sequences))
        assert seen[-1].state == pb.UPLOAD_STATE_ABORTED


@pytest.mark.rule(27)
async def test_watch_resumes_after_a_sequence_number() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        before = await intake.status(upload.upload_id)
        watch = intake.watch(upload.upload_id, before.sequence)
        await intake.send(upload.upload_id, 0, b"x")
        async with asyncio.timeout(30):
            status = await anext(watch)
        assert status.sequence > before.sequence
        assert status.received_chunks == 1


async def test_a_watch_of_an_upload_that_has_ended_ends() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        ended = await intake.abort(upload.upload_id)
        async with asyncio.timeout(30):
            assert [s async for s in intake.watch(upload.upload_id, ended.sequence)] == []
            (status,) = [s async for s in intake.watch(upload.upload_id)]
        assert status == ended


@pytest.mark.rule(27)
async def test_watch_coalesces_many_changes() -> None:
    async with running_intake(IntakeOptions(watch_interval_seconds=0.2)) as intake:
        upload = await intake.initiate()
        watch = intake.watch(upload.upload_id)
        began = time.monotonic()
        await anext(watch)
        for number in range(200):
            await intake.send(upload.upload_id, number, b"x")
        await intake.abort(upload.upload_id)
        async with asyncio.timeout(30):
            pushed = [status async for status in watch]
        # One snapshot per 0.2 s, plus the first and the last, which are not delayed.
        assert len(pushed) <= 2 + (time.monotonic() - began) / 0.2
        assert pushed[-1].state == pb.UPLOAD_STATE_ABORTED


# ------------------------------------------------------------------ list


async def listed(intake: Intake, **fields: object) -> pb.ListUploadsResponse:
    request = pb.ListUploadsRequest(**fields)  # type: ignore[arg-type]
    return await intake.stub.ListUploads(request, metadata=intake.metadata)


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
async def test_pages_list_every_upload_once_newest_first(page_size: int) -> None:
    async with running_intake() as intake:
        made = [(await intake.initiate(f"p{n}")).upload_id for n in range(6)]
        await intake.of("other").initiate("not mine")
        seen: list[str] = []
        token = ""
        while True:
            page = await listed(intake, page_size=page_size, page_token=token)
            assert len(page.uploads) <= page_size
            seen += [upload.upload_id for upload in page.uploads]
            token = page.next_page_token
            if not token:
                break
        assert sorted(seen) == sorted(made)
        assert seen == list(reversed(made))


async def test_uploads_are_listed_by_state() -> None:
    async with running_intake() as intake:
        pending = await intake.initiate("pending")
        aborted = await intake.initiate("aborted")
        await intake.abort(aborted.upload_id)
        for state, upload in (
            (pb.UPLOAD_STATE_PENDING, pending),
            (pb.UPLOAD_STATE_ABORTED, aborted),
        ):
            (found,) = (await listed(intake, states=[state])).uploads
            assert (found.upload_id, found.state) == (upload.upload_id, state)


async def test_a_page_token_of_another_listing_is_refused() -> None:
    async with running_intake() as intake:
        for n in range(3):
            await intake.initiate(f"p{n}")
        token = (await listed(intake, page_size=1)).next_page_token
        error = await refusal(
            listed(intake, page_size=1, page_token=token, states=[pb.UPLOAD_STATE_ABORTED])
        )
        assert error.reason == "BAD_PAGE_TOKEN"


async def test_list_marks_missing_chunks_as_truncated() -> None:
    async with running_intake() as intake:
        await intake.initiate()
        (upload,) = (await listed(intake)).uploads
        assert not upload.missing
        assert upload.missing_truncated


@pytest.mark.rule(28)
async def test_an_upload_of_a_replaced_ledger_is_lost() -> None:
    async with running_intake() as before:
        upload = await before.initiate(chunk_size=MIB)
    async with running_intake() as intake:
        error = await refusal(intake.status(upload.upload_id))
        assert (error.code, error.reason) == ("NOT_FOUND", "UPLOAD_LOST")
