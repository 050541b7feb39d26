"""Bad streams and chunks: a typed error, after which the next valid request succeeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MAX_CHUNK_BYTES, MAX_CHUNKS, MIB
from sluice_intake.options import IntakeOptions
from support.intake import (
    Intake,
    assert_a_good_request_succeeds,
    assert_is,
    block,
    frames_of,
    header,
    refusal,
    running_intake,
)

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
