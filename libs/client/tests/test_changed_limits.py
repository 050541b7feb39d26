"""Restart of uploads whose plan a server with changed limits refuses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import grpc
import pytest

from sluice.upload.v1 import upload_pb2
from sluice_client import (
    Client,
    ClientOptions,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    Phase,
    Progress,
)
from sluice_client.uploads.journal import Journal
from support.fake_intake import CHUNK_BYTES, INLINE_BYTES, FakeIntake
from support.scripted_faults import Break, CallFault, StreamFault

DATA = random.Random(11).randbytes(7 * CHUNK_BYTES + 5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(DATA)
    return path


async def interrupted(address: str, options: ClientOptions, intake: FakeIntake, file: Path) -> None:
    intake.stream_faults = [StreamFault(14, Break.DENIED)]
    async with Client(address, options=options) as client:
        with pytest.raises(PermissionDenied):
            await client.upload(file, drive="d", path="p", streams=1)


async def test_resume_with_smaller_chunks_restarts(
    address: str, fast_options: ClientOptions, intake: FakeIntake, file: Path
) -> None:
    await interrupted(address, fast_options, intake, file)
    intake.max_chunk_bytes = intake.preferred_chunk_bytes = CHUNK_BYTES // 2
    notices: list[str] = []

    def note(progress: Progress) -> None:
        if progress.notice:
            notices.append(progress.notice)

    async with Client(address, options=fast_options) as client:
        result = await client.upload(file, drive="d", path="p", on_progress=note)
    assert (result.upload_id, result.restarts) == ("n1-2", 1)
    assert intake.completed[0].data == DATA
    assert intake.uploads["n1-1"].state == upload_pb2.UPLOAD_STATE_ABORTED
    assert notices == [
        "the server's limits changed since the upload was interrupted; the upload restarts"
    ]


async def test_unnamed_upload_with_smaller_chunks_restarts(
    address: str,
    fast_options: ClientOptions,
    intake: FakeIntake,
    file: Path,
) -> None:
    """The run died between the journal and the answer of InitiateUpload."""
    intake.call_faults["InitiateUpload"] = [CallFault(grpc.StatusCode.INTERNAL)]
    async with Client(address, options=fast_options) as client:
        with pytest.raises(Exception, match="BACKEND_DOWN"):
            await client.upload(file, drive="d", path="p")
    intake.max_chunk_bytes = intake.preferred_chunk_bytes = CHUNK_BYTES // 2
    async with Client(address, options=fast_options) as client:
        await client.upload(file, drive="d", path="p")
    assert intake.completed[0].data == DATA


@pytest.mark.parametrize("resume", [True, False])
async def test_limits_changed_during_an_upload_restart_it(
    client: Client, intake: FakeIntake, file: Path, resume: bool
) -> None:
    """The client has cached the limits; a restart of the server makes them stale."""
    intake.stream_faults = [StreamFault(9, Break.UNAVAILABLE)]

    def shrink(progress: Progress) -> None:
        if progress.phase is Phase.WAITING:
            intake.max_chunk_bytes = intake.preferred_chunk_bytes = CHUNK_BYTES // 4

    result = await client.upload(
        file, drive="d", path="p", streams=1, on_progress=shrink, resume=resume
    )
    assert result.restarts == 1
    assert intake.completed[0].data == DATA
    assert (await client.limits()).max_chunk_bytes == CHUNK_BYTES // 4


async def test_limits_changed_since_the_request_restart_it(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await client.limits()
    intake.max_chunk_bytes = intake.preferred_chunk_bytes = CHUNK_BYTES // 2
    await client.upload(file, drive="d", path="p")
    assert intake.completed[0].data == DATA


async def test_inline_limit_that_shrank_sends_chunks(client: Client, intake: FakeIntake) -> None:
    await client.limits()
    intake.max_inline_bytes = 10
    await client.upload(DATA[:INLINE_BYTES], drive="d", path="p")
    assert intake.completed[0].data == DATA[:INLINE_BYTES]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "CHUNK_SIZE_MISMATCH"),
        (grpc.StatusCode.INVALID_ARGUMENT, "BAD_UPLOAD_ID"),
        (grpc.StatusCode.INVALID_ARGUMENT, "A_REASON_OF_A_LATER_SERVER"),
        (grpc.StatusCode.OUT_OF_RANGE, "EXPECTED_SIZE_EXCEEDED"),
        (grpc.StatusCode.FAILED_PRECONDITION, "SIZE_MISMATCH"),
        (grpc.StatusCode.FAILED_PRECONDITION, "TOTAL_MISMATCH"),
        (grpc.StatusCode.INTERNAL, "UNKNOWN_FORMAT"),
    ],
)
@pytest.mark.parametrize("method", ["GetUploadStatus", "CompleteUpload"])
async def test_resume_refused_for_its_plan_restarts(
    client: Client,
    address: str,
    fast_options: ClientOptions,
    intake: FakeIntake,
    file: Path,
    code: grpc.StatusCode,
    reason: str,
    method: str,
) -> None:
    await interrupted(address, fast_options, intake, file)
    intake.call_faults[method] = [CallFault(code, reason=reason)]
    result = await client.upload(file, drive="d", path="p")
    assert (result.upload_id, result.restarts) == ("n1-2", 1)
    assert intake.completed[0].data == DATA


async def test_refusal_for_another_cause_keeps_what_was_sent(
    client: Client, address: str, fast_options: ClientOptions, intake: FakeIntake, file: Path
) -> None:
    """A drive that has become read-only refuses a new upload as well."""
    await interrupted(address, fast_options, intake, file)
    read_only = CallFault(grpc.StatusCode.FAILED_PRECONDITION, reason="DRIVE_READ_ONLY")
    intake.call_faults["GetUploadStatus"] = [read_only]
    with pytest.raises(FailedPrecondition, match="DRIVE_READ_ONLY"):
        await client.upload(file, drive="d", path="p")
    result = await client.upload(file, drive="d", path="p")
    assert (result.upload_id, result.skipped_bytes) == ("n1-1", 3 * CHUNK_BYTES)


async def test_permanent_failure_is_not_retried_and_leaves_no_journal(
    client: Client, intake: FakeIntake, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    save = Journal.save

    def noted(journal: Journal, entry: Any) -> None:
        saved.append(entry)
        save(journal, entry)

    monkeypatch.setattr(Journal, "save", noted)
    refused = CallFault(grpc.StatusCode.INVALID_ARGUMENT, reason="BAD_PATH")
    intake.call_faults["InitiateUpload"] = [refused]
    with pytest.raises(InvalidArgument, match="BAD_PATH"):
        await client.upload(file, drive="d", path="p")
    assert intake.calls["InitiateUpload"] == len(saved) == 1
    assert client.options.state_dir is not None
    assert list((client.options.state_dir / "uploads").iterdir()) == []
