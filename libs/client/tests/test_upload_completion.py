"""Completion of uploads: when it is requested, how it is followed, how it fails."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from sluice.upload.v1 import upload_pb2
from sluice_client import (
    AlreadyExists,
    Client,
    ClientOptions,
    DeadlineExceeded,
    Phase,
    Progress,
    SluiceError,
    UploadFailed,
)
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.scripted_faults import Break, CallFault, StreamFault

DATA = random.Random(3).randbytes(5 * CHUNK_BYTES + 99)


@pytest.mark.rule(7)
async def test_completion_is_requested_once_every_chunk_is_accepted(
    client: Client, intake: FakeIntake
) -> None:
    """The fake never reports a stored chunk: waiting for one would never end."""
    progress: list[Progress] = []
    async with asyncio.timeout(10):
        await client.upload(DATA, drive="d", path="p", on_progress=progress.append)
    asked = next(step for step in progress if step.phase is Phase.COMPLETING)
    assert (asked.accepted_bytes, asked.stored_bytes) == (len(DATA), 0)
    assert intake.completed[0].data == DATA


async def test_long_completion_is_followed_to_its_end(client: Client, intake: FakeIntake) -> None:
    intake.hold_completing = 3
    result = await client.upload(DATA, drive="d", path="p")
    assert intake.calls["WatchUpload"] == 3
    assert result.upload_id == intake.completed[0].upload_id


async def test_pending_completion_is_not_a_failure(
    address: str, intake: FakeIntake, fast_options: ClientOptions
) -> None:
    intake.hold_completing = 10**9
    policy = fast_options.retry
    impatient = ClientOptions(
        retry=type(policy)(
            first_delay_seconds=0.001, longest_delay_seconds=0.01, patience_seconds=0.2
        ),
        state_dir=fast_options.state_dir,
    )
    intake.call_faults["WatchUpload"] = [
        CallFault(grpc.StatusCode.DEADLINE_EXCEEDED) for _ in range(10_000)
    ]
    async with Client(address, options=impatient) as client:
        with pytest.raises(DeadlineExceeded, match="COMPLETION_PENDING"):
            await client.upload(DATA, drive="d", path="p")


async def test_upload_that_the_server_fails_says_why(client: Client, intake: FakeIntake) -> None:
    def fail(progress: Progress) -> None:
        for upload in intake.uploads.values():
            upload.state = upload_pb2.UPLOAD_STATE_FAILED
            upload.failure = ("STORE_DENIED", "the bucket is not ours")

    intake.stream_faults = [StreamFault(5, Break.UNAVAILABLE)]
    with pytest.raises(UploadFailed, match="STORE_DENIED: the bucket is not ours") as caught:
        await client.upload(DATA, drive="d", path="p", streams=1, on_progress=fail)
    assert caught.value.metadata["upload_id"] == "n1-1"


async def test_path_taken_at_completion_is_already_exists(
    client: Client, intake: FakeIntake
) -> None:
    """The same error as at the beginning."""

    def taken(progress: Progress) -> None:
        for upload in intake.uploads.values():
            upload.state = upload_pb2.UPLOAD_STATE_FAILED
            upload.failure = ("PATH_EXISTS", "the path has a node")

    intake.stream_faults = [StreamFault(5, Break.UNAVAILABLE)]
    with pytest.raises(AlreadyExists, match="PATH_EXISTS"):
        await client.upload(DATA, drive="d", path="p", if_absent=True, on_progress=taken)


@pytest.mark.parametrize("answers_failures", [True, False])
@pytest.mark.parametrize("size", [1, len(DATA)])
@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.ALREADY_EXISTS, "PATH_EXISTS", AlreadyExists),
        (grpc.StatusCode.DATA_LOSS, "CHECKSUM_MISMATCH", UploadFailed),
        (grpc.StatusCode.FAILED_PRECONDITION, "STORE_DENIED", UploadFailed),
    ],
)
async def test_failed_completion_is_one_error_from_any_server(
    client: Client,
    intake: FakeIntake,
    code: grpc.StatusCode,
    reason: str,
    kind: type[SluiceError],
    size: int,
    answers_failures: bool,
) -> None:
    """CompleteUpload answers the error, or OK with a FAILED status."""
    intake.fail_at_completion = (code, reason)
    intake.answers_failures = answers_failures
    with pytest.raises(kind, match=f"{reason}: It failed.") as caught:
        await client.upload(DATA[:size], drive="d", path="p")
    assert type(caught.value) is kind
    assert caught.value.metadata == {"upload_id": "n1-1", "state": "FAILED"}
    assert intake.calls["CompleteUpload"] == 1, "what has failed is not asked again"
