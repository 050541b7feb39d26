"""Bad input: a typed error, after which the next valid request succeeds."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.paging import encode_page_token
from sluice_core.errors import SluiceError
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MAX_CHUNK_BYTES, MAX_CHUNKS, MIB
from sluice_intake.options import IntakeOptions
from support.intake import BLOCK, Intake, block, frames_of, header, refusal, running_intake


@pytest.fixture(name="intake")
async def an_intake() -> AsyncIterator[Intake]:
    async with running_intake() as intake:
        yield intake


async def assert_a_good_request_succeeds(intake: Intake) -> None:
    upload = await intake.initiate("good/after-bad")
    answered = await intake.send_stream(frames_of(upload.upload_id, 0, b"good"))
    assert (answered.error, answered.numbers) == (None, [0])
    assert not (await intake.send(upload.upload_id, 1, b"good too")).duplicate


def assert_is(error: SluiceError, code: str, reason: str, field: str | None) -> None:
    assert (error.code, error.reason, error.field) == (code, reason, field)
    assert error.message.endswith(".")


Frames = Callable[[str], Sequence[pb.UploadStreamRequest]]

INVALID = "INVALID_ARGUMENT"

BAD_STREAMS: dict[str, tuple[Frames, str, str, str | None]] = {
    "no upload id": (
        lambda _: [header("", 0, 1)],
        *(INVALID, "BAD_UPLOAD_ID", "upload_id"),
    ),
    "an upload id with a newline": (
        lambda u: [header(u + "\n", 0, 1)],
        *(INVALID, "BAD_UPLOAD_ID", "upload_id"),
    ),
    "an upload id that leaves its key": (
        lambda u: [header("{" + u + "}:state", 0, 1)],
        *(INVALID, "BAD_UPLOAD_ID", "upload_id"),
    ),
    "a block before any header": (
        lambda _: [block(b"x")],
        *(INVALID, "BLOCK_BEFORE_HEADER", "header"),
    ),
    "a block after the chunk is whole": (
        lambda u: [*frames_of(u, 0, b"x"), block(b"y")],
        *(INVALID, "BLOCK_BEFORE_HEADER", "header"),
    ),
    "a negative number": (lambda u: [header(u, -1, 1)], INVALID, "BAD_CHUNK_NUMBER", "number"),
    "an absurd number": (
        lambda u: [header(u, MAX_CHUNKS, 1)],
        *(INVALID, "BAD_CHUNK_NUMBER", "number"),
    ),
    "a negative size": (lambda u: [header(u, 0, -1)], INVALID, "BAD_CHUNK_SIZE", "size"),
    "a size above the limit": (
        lambda u: [header(u, 0, MAX_CHUNK_BYTES + 1)],
        *(INVALID, "CHUNK_TOO_LARGE", "size"),
    ),
    "an empty chunk in the middle": (
        lambda u: [header(u, 1, 0)],
        *(INVALID, "EMPTY_CHUNK", "size"),
    ),
    "a block above 1 MiB": (
        lambda u: [header(u, 0, 2 * MIB), block(bytes(MIB + 1))],
        *(INVALID, "BLOCK_TOO_LARGE", "data"),
    ),
    "more bytes than the size": (
        lambda u: [header(u, 0, 3), block(b"four")],
        *("OUT_OF_RANGE", "CHUNK_OVERRUN", "data"),
    ),
    "more bytes than the size in the frame of the header": (
        lambda u: [pb.UploadStreamRequest(header=header(u, 0, 3).header, data=b"four")],
        *("OUT_OF_RANGE", "CHUNK_OVERRUN", "data"),
    ),
    "a header while a chunk is open": (
        lambda u: [header(u, 0, 3), block(b"x"), header(u, 1, 3)],
        *(INVALID, "CHUNK_OPEN", "header"),
    ),
    "an end inside of a chunk": (
        lambda u: [header(u, 0, 3), block(b"x")],
        *(INVALID, "CHUNK_INCOMPLETE", "data"),
    ),
    "a second upload": (
        lambda u: [*frames_of(u, 0, b"x"), header("another-upload", 1, 1)],
        *(INVALID, "SECOND_UPLOAD", "upload_id"),
    ),
    "a wrong checksum": (
        lambda u: frames_of(u, 0, b"bytes", crc32c=crc32c(b"other bytes")),
        *("DATA_LOSS", "CHECKSUM_MISMATCH", None),
    ),
    "a total that contradicts": (
        lambda u: [*frames_of(u, 1, b"x", is_last=True), *frames_of(u, 2, b"x", is_last=True)],
        *("FAILED_PRECONDITION", "TOTAL_MISMATCH", None),
    ),
    "an unknown upload": (
        lambda u: [header(u[:-4] + "0000", 0, 1)],
        *("NOT_FOUND", "UPLOAD_NOT_FOUND", None),
    ),
    "an upload of another ledger": (
        lambda u: [header("0ther" + u[u.index("-") :], 0, 1)],
        *("NOT_FOUND", "UPLOAD_LOST", None),
    ),
}


@pytest.mark.rule(5)
@pytest.mark.parametrize("case", BAD_STREAMS)
async def test_a_bad_stream_ends_with_its_error(intake: Intake, case: str) -> None:
    frames, code, reason, field = BAD_STREAMS[case]
    upload = await intake.initiate()
    answered = await intake.send_stream(frames(upload.upload_id))
    assert answered.error is not None
    assert_is(answered.error, code, reason, field)
    await assert_a_good_request_succeeds(intake)


@pytest.mark.rule(5)
@pytest.mark.parametrize("case", BAD_STREAMS)
async def test_a_bad_stream_leaves_no_bytes_and_no_reservation(intake: Intake, case: str) -> None:
    upload = await intake.initiate()
    await intake.send_stream(BAD_STREAMS[case][0](upload.upload_id))
    assert (await intake.ledger.backlog()).reserved_bytes == 0
    held = [token for _, tokens in await intake.chunks.leftovers(-1.0, 99) for token in tokens]
    assert await intake.ledger.known_tokens(upload.upload_id, held) == frozenset(held)


@pytest.mark.parametrize(
    "wire",
    [b"\x12\x05abc", b"\x0f", b"\x0a\x02\xff\xff", b"\x12\xff\xff\xff\xff\xff\xff", b"\x08" * 3],
)
@pytest.mark.parametrize("method", ["UploadStream", "UploadChunk"])
async def test_bytes_that_are_no_message_get_a_typed_error(
    intake: Intake, method: str, wire: bytes
) -> None:
    call = intake.raw(method)(iter([wire]))
    error = await refusal(call.read() if method == "UploadStream" else call)
    assert_is(error, INVALID, "MALFORMED_MESSAGE", None)
    await assert_a_good_request_succeeds(intake)


Call = Callable[[Intake, str], Awaitable[object]]


def initiate(**fields: Any) -> Call:
    return lambda intake, _: intake.initiate(**fields)


def send(number: int, data: bytes, **fields: Any) -> Call:
    return lambda intake, upload_id: intake.send(upload_id, number, data, **fields)


def complete(**fields: Any) -> Call:
    return lambda intake, upload_id: intake.complete(upload_id, **fields)


def list_uploads(**fields: Any) -> Call:
    return lambda intake, _: intake.stub.ListUploads(pb.ListUploadsRequest(**fields))


_NAN_CURSOR = base64.urlsafe_b64encode(b"nan u-1").decode()

BAD_CALLS: dict[str, tuple[Call, str, str, str | None]] = {
    # InitiateUpload
    "no drive": (initiate(drive=""), INVALID, "BAD_DRIVE_NAME", "drive"),
    "a drive with a slash": (initiate(drive="a/b"), INVALID, "BAD_DRIVE_NAME", "drive"),
    "an empty path": (initiate(path=""), INVALID, "BAD_PATH", "path"),
    "a path that climbs": (initiate(path="a/../../etc"), INVALID, "BAD_PATH", "path"),
    "a path with a dot": (initiate(path="./a"), INVALID, "BAD_PATH", "path"),
    "an absolute path": (initiate(path="/etc/passwd"), INVALID, "BAD_PATH", "path"),
    "a path with NUL": (initiate(path="a\0b"), INVALID, "BAD_PATH", "path"),
    "a path with a control": (initiate(path="a\x1b[2Jb"), INVALID, "BAD_PATH", "path"),
    "an over-long path": (initiate(path="ä" * 513), INVALID, "BAD_PATH", "path"),
    "a content type with a line break": (
        initiate(content_type="a/b\r\nx: y"),
        *(INVALID, "BAD_CONTENT_TYPE", "content_type"),
    ),
    "a negative expected size": (
        initiate(expected_size=-1),
        *(INVALID, "BAD_EXPECTED_SIZE", "expected_size"),
    ),
    "an object above 5 TiB": (
        initiate(expected_size=5 * 1024**4 + 1),
        *(INVALID, "BAD_EXPECTED_SIZE", "expected_size"),
    ),
    "a chunk size of 0": (initiate(chunk_size=0), INVALID, "BAD_CHUNK_SIZE", "chunk_size"),
    "a chunk size above the limit": (
        initiate(chunk_size=MAX_CHUNK_BYTES + 1),
        *(INVALID, "BAD_CHUNK_SIZE", "chunk_size"),
    ),
    "more than a million chunks": (
        initiate(chunk_size=1, expected_size=MAX_CHUNKS + 1),
        *(INVALID, "CHUNK_SIZE_TOO_SMALL", "chunk_size"),
    ),
    "a SHA-256 of 31 bytes": (initiate(sha256=b"x" * 31), INVALID, "BAD_SHA256", "sha256"),
    "65 metadata entries": (
        initiate(metadata={str(n): "" for n in range(65)}),
        *(INVALID, "TOO_MANY_METADATA_ENTRIES", "metadata"),
    ),
    "9 KiB of metadata": (
        initiate(metadata={"k": "v" * 9 * 1024}),
        *(INVALID, "METADATA_TOO_LARGE", "metadata"),
    ),
    "a request id with a line break": (
        initiate(request_id="a\nb"),
        *(INVALID, "BAD_REQUEST_ID", "request_id"),
    ),
    "inline data above 1 MiB": (
        initiate(inline_data=bytes(BLOCK + 1)),
        *(INVALID, "INLINE_TOO_LARGE", "inline_data"),
    ),
    "inline data of another size than expected": (
        initiate(inline_data=b"four", expected_size=5),
        *(INVALID, "SIZE_MISMATCH", "expected_size"),
    ),
    "inline data with a wrong checksum": (
        initiate(inline_data=b"four", crc32c=1),
        *("DATA_LOSS", "CHECKSUM_MISMATCH", None),
    ),
    # UploadChunk
    "a malformed upload id": (
        lambda intake, _: intake.send("a:b", 0, b"x"),
        *(INVALID, "BAD_UPLOAD_ID", "upload_id"),
    ),
    "an unknown upload": (
        lambda intake, _: intake.send("unknown", 0, b"x"),
        *("NOT_FOUND", "UPLOAD_NOT_FOUND", None),
    ),
    "a negative number": (send(-1, b"x"), INVALID, "BAD_CHUNK_NUMBER", "number"),
    "an absurd number": (send(2**62, b"x"), INVALID, "BAD_CHUNK_NUMBER", "number"),
    "an empty chunk in the middle": (send(1, b""), INVALID, "EMPTY_CHUNK", "size"),
    "a wrong checksum": (send(0, b"x", crc32c=1), "DATA_LOSS", "CHECKSUM_MISMATCH", None),
    # CompleteUpload
    "completion with gaps": (
        complete(total_chunks=2),
        *("FAILED_PRECONDITION", "CHUNKS_MISSING", None),
    ),
    "completion without a total": (
        complete(),
        "FAILED_PRECONDITION",
        "TOTAL_UNKNOWN",
        "total_chunks",
    ),
    "an absurd total": (
        complete(total_chunks=MAX_CHUNKS + 1),
        *(INVALID, "BAD_TOTAL_CHUNKS", "total_chunks"),
    ),
    "a negative total": (complete(total_chunks=-1), INVALID, "BAD_TOTAL_CHUNKS", "total_chunks"),
    "a claim of 3 bytes": (
        complete(total_chunks=1, sha256=b"abc"),
        *(INVALID, "BAD_SHA256", "sha256"),
    ),
    "a negative wait": (complete(wait={"seconds": -1}), INVALID, "BAD_WAIT", "wait"),
    # Queries
    "the status of nothing": (
        lambda intake, _: intake.status(""),
        *(INVALID, "BAD_UPLOAD_ID", "upload_id"),
    ),
    "aborting nothing": (
        lambda intake, _: intake.abort("nothing"),
        *("NOT_FOUND", "UPLOAD_NOT_FOUND", None),
    ),
    "watching from a negative sequence": (
        lambda intake, upload_id: anext(intake.watch(upload_id, -1)),
        *(INVALID, "BAD_SEQUENCE", "after_sequence"),
    ),
    "a negative page": (list_uploads(page_size=-1), INVALID, "BAD_PAGE_SIZE", "page_size"),
    "a made-up page token": (
        list_uploads(page_token="next, please"),
        *(INVALID, "BAD_PAGE_TOKEN", "page_token"),
    ),
    "a page token with a cursor that is no number": (
        list_uploads(page_token=encode_page_token(_NAN_CURSOR, "default")),
        *(INVALID, "BAD_PAGE_TOKEN", "page_token"),
    ),
    "a state that is none": (
        list_uploads(states=[pb.UPLOAD_STATE_UNSPECIFIED]),
        *(INVALID, "BAD_STATE", "states"),
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
async def test_a_bad_call_gets_its_error(intake: Intake, case: str) -> None:
    call, code, reason, field = BAD_CALLS[case]
    upload = await intake.initiate()
    assert_is(await refusal(call(intake, upload.upload_id)), code, reason, field)
    await assert_a_good_request_succeeds(intake)


@pytest.mark.rule(21)
async def test_bytes_beyond_the_expected_size_are_out_of_range(intake: Intake) -> None:
    upload = await intake.initiate(expected_size=4)
    assert (await refusal(intake.send(upload.upload_id, 0, b"fifth"))).code == "OUT_OF_RANGE"
    answered = await intake.send_stream(frames_of(upload.upload_id, 0, b"fifth"))
    assert answered.error is not None
    assert answered.error.code == "OUT_OF_RANGE"
    await assert_a_good_request_succeeds(intake)


@pytest.mark.rule(2)
async def test_other_content_under_a_number_is_a_conflict(intake: Intake) -> None:
    upload = await intake.initiate()
    await intake.send(upload.upload_id, 0, b"content")
    error = await refusal(intake.send(upload.upload_id, 0, b"another"))
    assert_is(error, "ALREADY_EXISTS", "CHUNK_CONFLICT", None)
    answered = await intake.send_stream(frames_of(upload.upload_id, 0, b"another"))
    assert answered.error is not None
    assert_is(answered.error, "ALREADY_EXISTS", "CHUNK_CONFLICT", None)
    await assert_a_good_request_succeeds(intake)


@pytest.mark.rule(2)
async def test_force_replaces_a_chunk_whose_part_is_not_queued(intake: Intake) -> None:
    upload = await intake.initiate()
    await intake.send(upload.upload_id, 0, b"content")
    await intake.send(upload.upload_id, 0, b"other bytes", force=True)
    status = await intake.status(upload.upload_id)
    assert (status.received_chunks, status.received_bytes) == (1, len(b"other bytes"))


async def test_a_chunk_after_completion_is_refused(intake: Intake) -> None:
    upload = await intake.initiate()
    await intake.send(upload.upload_id, 0, b"all")
    await intake.complete(upload.upload_id, total_chunks=1)
    error = await refusal(intake.send(upload.upload_id, 1, b"more"))
    assert error.code == "FAILED_PRECONDITION"
    assert (await intake.send(upload.upload_id, 0, b"all")).duplicate
    await assert_a_good_request_succeeds(intake)


@pytest.mark.rule(21)
async def test_fewer_bytes_than_expected_do_not_complete(intake: Intake) -> None:
    upload = await intake.initiate(expected_size=9)
    await intake.send(upload.upload_id, 0, b"few")
    error = await refusal(intake.complete(upload.upload_id, total_chunks=1))
    assert_is(error, "FAILED_PRECONDITION", "SIZE_MISMATCH", None)


async def test_another_tenants_upload_looks_like_none(intake: Intake) -> None:
    upload = await intake.initiate()
    stranger = intake.of("stranger")
    for call in (
        stranger.status(upload.upload_id),
        stranger.abort(upload.upload_id),
        stranger.complete(upload.upload_id, total_chunks=1),
        stranger.send(upload.upload_id, 0, b"x"),
        anext(stranger.watch(upload.upload_id)),
    ):
        assert_is(await refusal(call), "NOT_FOUND", "UPLOAD_NOT_FOUND", None)
    answered = await stranger.send_stream(frames_of(upload.upload_id, 0, b"x"))
    assert answered.error is not None
    assert_is(answered.error, "NOT_FOUND", "UPLOAD_NOT_FOUND", None)
    assert (await intake.status(upload.upload_id)).received_chunks == 0


@pytest.mark.parametrize("messages", [0, 2])
async def test_upload_chunk_takes_exactly_one_message(intake: Intake, messages: int) -> None:
    upload = await intake.initiate()
    wire = pb.UploadChunkRequest(upload_id=upload.upload_id, data=b"x").SerializeToString()
    call = intake.raw("UploadChunk")(iter([wire] * messages))
    assert_is(await refusal(call), INVALID, "NOT_ONE_MESSAGE", None)
    assert (await intake.status(upload.upload_id)).received_chunks == 0


async def test_a_message_above_the_limit_is_refused_by_grpc(intake: Intake) -> None:
    upload = await intake.initiate()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await intake.send(upload.upload_id, 0, bytes(33 * MIB))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await assert_a_good_request_succeeds(intake)


@pytest.mark.rule(4)
async def test_a_uniform_upload_takes_chunks_of_its_size_only() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate(chunk_size=10)
        error = await refusal(intake.send(upload.upload_id, 0, b"eleven bytes"))
        assert_is(error, INVALID, "CHUNK_SIZE_MISMATCH", "size")
        assert not (await intake.send(upload.upload_id, 0, b"ten bytes.")).duplicate


async def test_a_chunk_above_a_smaller_limit_is_refused() -> None:
    options = IntakeOptions(ledger=LedgerOptions(max_chunk_bytes=1000))
    async with running_intake(options) as intake:
        upload = await intake.initiate()
        error = await refusal(intake.send(upload.upload_id, 0, bytes(1001)))
        assert_is(error, INVALID, "CHUNK_TOO_LARGE", "size")
