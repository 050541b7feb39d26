"""Bad unary calls: a typed error, after which the next valid request succeeds."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.paging import encode_page_token
from sluice_core.uploads.model import MAX_CHUNK_BYTES, MAX_CHUNKS
from support.intake import (
    BLOCK,
    Intake,
    assert_a_good_request_succeeds,
    assert_is,
    frames_of,
    refusal,
)

INVALID = "INVALID_ARGUMENT"


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
