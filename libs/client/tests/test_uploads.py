"""Uploads without faults, and their named failures."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from sluice.upload.v1 import upload_pb2
from sluice_client import (
    Client,
    ClientOptions,
    InvalidArgument,
    PermissionDenied,
    Phase,
    Progress,
    SourceNotRepeatable,
    Unavailable,
)
from sluice_client.status import from_rpc_error
from support.fake_intake import CHUNK_BYTES, INLINE_BYTES, FakeIntake
from support.scripted_faults import Break, CallFault, StreamFault

DATA = random.Random(3).randbytes(5 * CHUNK_BYTES + 99)


async def one_way(data: bytes, step: int = 10_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES])
async def test_small_object_needs_one_round_trip(
    client: Client, intake: FakeIntake, size: int
) -> None:
    await client.limits()
    intake.calls.clear()
    result = await client.upload(DATA[:size], drive="d", path="p")
    assert dict(intake.calls) == {"InitiateUpload": 1}
    assert intake.completed[0].data == DATA[:size]
    assert (result.size, result.sent_bytes, result.skipped_bytes) == (size, size, 0)


async def test_request_carries_the_arguments(client: Client, intake: FakeIntake) -> None:
    await client.upload(
        b"x",
        drive="photos",
        path="2026/a.jpg",
        content_type="image/jpeg",
        metadata={"camera": "M6"},
        if_absent=True,
        sha256=True,
    )
    request = intake.completed[0].request
    assert (request.drive, request.path, request.content_type) == (
        "photos",
        "2026/a.jpg",
        "image/jpeg",
    )
    assert dict(request.metadata) == {"camera": "M6"}
    assert request.if_absent
    assert request.sha256 == hashlib.sha256(b"x").digest()
    assert set(intake.tokens) == {"Bearer a-token"}


@pytest.mark.parametrize("kind", ["path", "bytes", "bytearray", "memoryview", "file", "BytesIO"])
async def test_every_kind_of_repeatable_source_arrives(
    client: Client, intake: FakeIntake, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "source"
    await asyncio.to_thread(path.write_bytes, DATA)
    with path.open("rb") as file:
        source = {
            "path": path,
            "bytes": DATA,
            "bytearray": bytearray(DATA),
            "memoryview": memoryview(DATA),
            "file": file,
            "BytesIO": io.BytesIO(DATA),
        }[kind]
        result = await client.upload(source, drive="d", path="p")  # type: ignore[arg-type]
    assert intake.completed[0].data == DATA
    assert intake.completed[0].request.expected_size == len(DATA)
    assert result.size == len(DATA)


async def test_file_object_is_uploaded_from_its_position(
    client: Client, intake: FakeIntake, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    await asyncio.to_thread(path.write_bytes, DATA)
    with path.open("rb") as file:
        file.seek(1000)
        await client.upload(file, drive="d", path="p")
        assert file.tell() == 1000
    assert intake.completed[0].data == DATA[1000:]


async def test_pipe_is_uploaded_to_its_end(client: Client, intake: FakeIntake) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = DATA

        def read(self, size: int = -1, /) -> bytes:
            piece, self.rest = self.rest[:size], self.rest[size:]
            return piece

    await client.upload(Pipe(), drive="d", path="p")  # type: ignore[arg-type]
    assert intake.completed[0].data == DATA
    assert not intake.completed[0].request.HasField("expected_size")


async def test_sha256_is_computed_and_claimed(client: Client, intake: FakeIntake) -> None:
    for source in (DATA, one_way(DATA)):
        result = await client.upload(source, drive="d", path="p", sha256=True)
        digest = hashlib.sha256(DATA).digest()
        assert result.sha256 == digest
        assert intake.uploads[result.upload_id].claimed_sha256 == digest


@pytest.mark.rule(5)
async def test_throttled_chunk_is_not_resent(client: Client, intake: FakeIntake) -> None:
    phases: list[Phase] = []
    intake.stream_faults = [StreamFault(10**9, Break.END, throttle=True)]
    await client.upload(
        DATA, drive="d", path="p", streams=1, on_progress=lambda it: phases.append(it.phase)
    )
    assert intake.calls["UploadStream"] == 1
    assert intake.order == [0, 1, 2, 3, 4, 5]
    assert Phase.THROTTLED in phases


@pytest.mark.parametrize("kind", [Break.BUDGET_FULL, Break.LOOKAHEAD_EXCEEDED])
async def test_needed_chunk_is_sent_first_then_in_order(
    client: Client, intake: FakeIntake, kind: Break
) -> None:
    intake.stream_faults = [StreamFault(9, kind)]
    await client.upload(DATA, drive="d", path="p", streams=1)
    second = intake.order[intake.order.index(2) + 1 :]
    assert second == [2, 3, 4, 5], "the stream broke inside chunk 2"
    assert intake.resent == []


async def test_requested_delay_is_kept(client: Client, intake: FakeIntake) -> None:
    asked = CallFault(
        grpc.StatusCode.RESOURCE_EXHAUSTED, reason="BUDGET_FULL", retry_after_seconds=0.3
    )
    intake.call_faults["InitiateUpload"] = [asked]
    started = asyncio.get_running_loop().time()
    await client.upload(DATA, drive="d", path="p")
    assert asyncio.get_running_loop().time() - started >= 0.3


@pytest.mark.rule(7, 8)
async def test_only_damaged_chunks_are_resent(client: Client, intake: FakeIntake) -> None:
    """The state returns from COMPLETING to UPLOADING (rule 8)."""
    intake.take_back_at_completion = [{1, 4}, {0}]
    await client.upload(DATA, drive="d", path="p", streams=1)
    assert intake.order == [0, 1, 2, 3, 4, 5, 1, 4, 0]
    assert intake.completed[0].data == DATA


@pytest.mark.rule(7)
async def test_one_way_source_fails_when_chunks_are_needed_again(
    client: Client, intake: FakeIntake
) -> None:
    intake.take_back_at_completion = [{1}]
    with pytest.raises(SourceNotRepeatable, match="read only once"):
        await client.upload(one_way(DATA), drive="d", path="p")
    assert intake.completed == []
    (upload,) = intake.uploads.values()
    assert upload.state == upload_pb2.UPLOAD_STATE_ABORTED, "it holds no budget for a day"


@pytest.mark.rule(28)
async def test_one_way_source_fails_when_the_upload_is_lost(
    client: Client, intake: FakeIntake
) -> None:
    intake.lose_everything_after = 3
    with pytest.raises(SourceNotRepeatable):
        await client.upload(one_way(DATA), drive="d", path="p")
    assert intake.completed == []


async def test_error_in_the_callers_iterator_reaches_the_caller(
    client: Client, intake: FakeIntake
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA
        raise ValueError("the camera is gone")

    with pytest.raises(ValueError, match="the camera is gone"):
        await client.upload(broken(), drive="d", path="p")
    assert intake.completed == []


async def test_restarts_are_bounded(client: Client, intake: FakeIntake) -> None:
    gone = CallFault(grpc.StatusCode.NOT_FOUND, reason="UPLOAD_LOST")
    intake.call_faults["CompleteUpload"] = [gone] * 100
    with pytest.raises(Exception, match="UPLOAD_LOST"):
        await client.upload(DATA, drive="d", path="p")
    assert intake.calls["InitiateUpload"] == 1 + client.options.max_restarts


async def test_refused_token_ends_it_at_once(client: Client, intake: FakeIntake) -> None:
    denied = CallFault(grpc.StatusCode.PERMISSION_DENIED, reason="MISSING_SCOPE")
    intake.call_faults["InitiateUpload"] = [denied]
    with pytest.raises(PermissionDenied) as caught:
        await client.upload(DATA, drive="d", path="p")
    assert intake.calls["InitiateUpload"] == 1
    assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "MISSING_SCOPE")
    assert len(caught.value.request_id) == 32


@pytest.mark.parametrize("at", [1, 5, 6, 7, 13, 14, 15])
async def test_refusal_reason_in_mid_stream_is_kept(
    client: Client, intake: FakeIntake, at: int
) -> None:
    """This includes a refusal during the write of a block (grpc.aio hides it then)."""
    intake.stream_faults = [StreamFault(at, Break.DENIED) for _ in range(10)]
    for _ in range(10):
        with pytest.raises(PermissionDenied, match="MISSING_SCOPE"):
            await client.upload(DATA, drive="d", path="p", streams=1)


async def test_cancelling_an_upload_from_memory_frees_it_on_the_server(
    client: Client, intake: FakeIntake
) -> None:
    intake.hold_from = 2
    upload = asyncio.ensure_future(client.upload(DATA, drive="d", path="p", streams=1))
    await intake.received(2)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    (one,) = intake.uploads.values()
    assert one.state == upload_pb2.UPLOAD_STATE_ABORTED


async def test_progress_adds_up(client: Client) -> None:
    seen: list[Progress] = []
    await client.upload(DATA, drive="d", path="p", on_progress=seen.append)
    last = seen[-1]
    assert last.phase is Phase.DONE
    assert last.total_bytes == last.sent_bytes == last.accepted_bytes == len(DATA)
    assert last.stored_bytes == len(DATA)
    assert last.skipped_bytes == 0
    assert all(a.accepted_bytes <= b.accepted_bytes for a, b in pairwise(seen))


async def test_many_uploads_at_once_share_one_client(client: Client, intake: FakeIntake) -> None:
    objects = [random.Random(n).randbytes(n * 3000) for n in range(60)]
    async with asyncio.TaskGroup() as group:
        for number, data in enumerate(objects):
            group.create_task(client.upload(data, drive="d", path=f"p/{number}"))
    assert {one.request.path: one.data for one in intake.completed} == {
        f"p/{number}": data for number, data in enumerate(objects)
    }


async def test_unsupported_source_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="BAD_SOURCE"):
        await client.upload(17, drive="d", path="p")  # type: ignore[arg-type]


async def test_folder_is_refused_as_source(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="NOT_A_REGULAR_FILE"):
        await client.upload(tmp_path, drive="d", path="p")


async def test_server_that_never_answered_fails_fast(fast_options: ClientOptions) -> None:
    policy = type(fast_options.retry)(connect_patience_seconds=0.2)
    async with Client("127.0.0.1:1", options=ClientOptions(retry=policy)) as client:
        with pytest.raises(Unavailable, match="SERVER_UNREACHABLE"):
            await client.upload(b"x", drive="d", path="p")


def test_unreachable_server_names_the_innermost_reason() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        "DNS resolution failed for h:1: [C-ares status is not ARES_SUCCESS: Domain name not found]",
        None,
    )
    assert from_rpc_error(error, "h:1").message == "no answer from h:1: Domain name not found"


async def test_uploads_are_listed_page_by_page(client: Client, intake: FakeIntake) -> None:
    for number in range(5):
        await client.upload(b"x", drive="d", path=f"p{number}")
    assert [one.path async for one in client.list_uploads()] == [f"p{n}" for n in range(5)]
    assert intake.calls["ListUploads"] == 3


async def test_watching_ends_with_the_upload(client: Client, intake: FakeIntake) -> None:
    result = await client.upload(b"x", drive="d", path="p")
    intake.call_faults["WatchUpload"] = [CallFault()]
    states = [one.state async for one in client.watch(result.upload_id)]
    assert states == ["COMPLETED"]
