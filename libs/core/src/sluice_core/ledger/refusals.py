"""Errors of the ledger's rules, shared by all adapters."""

from __future__ import annotations

from sluice_core.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
)
from sluice_core.uploads.model import FORMAT_VERSION, MAX_CHUNKS, MAX_OBJECT_BYTES

_RETRY_WHEN_FULL_SECONDS = 5.0

# ------------------------------------------------------------------ uploads


def upload_not_found() -> NotFound:
    return NotFound("UPLOAD_NOT_FOUND", "No such upload; it may have ended and been purged.")


def unknown_format(version: object) -> Internal:
    return Internal(
        "UNKNOWN_FORMAT",
        f"An upload is stored in format {version}, this release reads {FORMAT_VERSION}; "
        "run the release that wrote it.",
    )


def request_id_conflict() -> AlreadyExists:
    return AlreadyExists(
        "REQUEST_ID_CONFLICT",
        "This request id was used with other arguments; choose a new one.",
        field="request_id",
    )


def budget_full() -> ResourceExhausted:
    return ResourceExhausted(
        "BUDGET_FULL",
        "The server has no room for a new upload; start it again a little later.",
        retry_after_seconds=_RETRY_WHEN_FULL_SECONDS,
    )


def no_room_for_chunk(number: int, needed_number: int) -> ResourceExhausted:
    return ResourceExhausted(
        "BUDGET_FULL",
        "The server has no room for the chunk at the moment; "
        f"send chunk {needed_number} first, after the delay.",
        retry_after_seconds=_RETRY_WHEN_FULL_SECONDS,
        metadata={"number": str(number), "needed_number": str(needed_number)},
    )


def staging_lost() -> Aborted:
    """Return the error for missing staged blocks.

    Their time to live ended, or a failover lost them. Or none were staged because the chunk was
    accepted before, and it has been rejected since (rule 8).
    """
    return Aborted(
        "STAGING_LOST",
        "Some or all bytes of this chunk are gone; send the chunk again.",
    )


def upload_not_ended() -> FailedPrecondition:
    return FailedPrecondition(
        "UPLOAD_NOT_ENDED", "Only an ended upload can be cleaned up; end it first."
    )


# ------------------------------------------------------------------ chunks


def bad_chunk_number() -> InvalidArgument:
    return InvalidArgument(
        "BAD_CHUNK_NUMBER",
        f"Chunks are numbered 0 to {MAX_CHUNKS - 1}; send larger chunks for a larger object.",
        field="number",
    )


def chunk_too_large(most: int) -> InvalidArgument:
    return InvalidArgument(
        "CHUNK_TOO_LARGE", f"A chunk has at most {most} bytes; split it.", field="size"
    )


def beyond_declared_chunks(expected: int, total: int) -> OutOfRange:
    """Return the error for a chunk beyond the last one that the declared sizes allow."""
    return OutOfRange(
        "EXPECTED_SIZE_EXCEEDED",
        f"{expected} bytes were declared, which are {total} chunks; "
        "start a new upload for a larger object.",
        field="number",
    )


def expected_size_exceeded(expected: int) -> OutOfRange:
    return OutOfRange(
        "EXPECTED_SIZE_EXCEEDED",
        f"{expected} bytes were declared; start a new upload for a larger object.",
        field="size",
    )


def object_too_large() -> OutOfRange:
    return OutOfRange(
        "OBJECT_TOO_LARGE", f"An object has at most {MAX_OBJECT_BYTES} bytes.", field="size"
    )


def total_mismatch(total: int) -> FailedPrecondition:
    """Return the error for a contradiction of the fixed number of chunks."""
    return FailedPrecondition(
        "TOTAL_MISMATCH",
        f"The number of chunks is fixed at {total}; keep to it or start a new upload.",
        metadata={"total_chunks": str(total)},
    )


def last_below_received(highest: int, number: int) -> FailedPrecondition:
    return FailedPrecondition(
        "TOTAL_MISMATCH",
        f"Chunk {highest} was received, so chunk {number} cannot be the last one; "
        "complete the upload with the true number of chunks.",
        field="is_last",
    )


def chunk_size_mismatch(number: int, size: int) -> InvalidArgument:
    return InvalidArgument(
        "CHUNK_SIZE_MISMATCH",
        f"By the declared sizes chunk {number} has {size} bytes; send exactly those.",
        field="size",
    )


def empty_chunk() -> InvalidArgument:
    return InvalidArgument(
        "EMPTY_CHUNK",
        "Only the single chunk of an empty object may be empty; leave the chunk out.",
        field="size",
    )


def after_empty_chunk() -> InvalidArgument:
    return InvalidArgument(
        "EMPTY_CHUNK",
        "Chunk 0 is empty, so nothing may follow it; replace it with `force` or complete.",
        field="number",
    )


def chunk_conflict(number: int) -> AlreadyExists:
    return AlreadyExists(
        "CHUNK_CONFLICT",
        f"Chunk {number} was received with other content; send the same bytes, or replace it with "
        "`force` while its part has not been queued.",
        metadata={"number": str(number)},
    )


def chunk_queued(number: int) -> FailedPrecondition:
    return FailedPrecondition(
        "CHUNK_QUEUED",
        f"The part with chunk {number} is queued for the object store; "
        "abort this upload and start a new one to send other content.",
    )


def completing_takes_no_chunk() -> FailedPrecondition:
    return FailedPrecondition(
        "UPLOAD_COMPLETING",
        "The upload is being completed with all of its chunks; send no more chunks.",
    )


# ------------------------------------------------------------------ completion


def total_unknown() -> FailedPrecondition:
    return FailedPrecondition(
        "TOTAL_UNKNOWN",
        "No chunk was marked as the last one; say how many chunks there are.",
        field="total_chunks",
    )


def total_below_received(highest: int, requested: int) -> FailedPrecondition:
    return FailedPrecondition(
        "TOTAL_MISMATCH",
        f"Chunk {highest} was received, so {requested} chunks are too few; complete with the true "
        "number.",
        field="total_chunks",
    )


def claim_mismatch(name: str) -> FailedPrecondition:
    return FailedPrecondition(
        "CLAIM_MISMATCH",
        f"Another {name} was claimed before; leave it out or claim the same.",
        field=name,
    )


def chunks_missing(received: int, total: int, needed: int) -> FailedPrecondition:
    return FailedPrecondition(
        "CHUNKS_MISSING",
        f"{received} of {total} chunks are in; send the missing ones, beginning with {needed}.",
        metadata={"received_chunks": str(received), "needed_number": str(needed)},
    )


def size_mismatch(received: int, expected: int) -> FailedPrecondition:
    return FailedPrecondition(
        "SIZE_MISMATCH",
        f"{received} bytes are in, {expected} were declared; send the rest, or "
        "abort and declare the true size.",
    )


# ------------------------------------------------------------------ workers


def fenced() -> Aborted:
    """Return the error for a claim that is no longer valid."""
    return Aborted(
        "FENCED",
        "This claim was taken over or its upload has ended; drop the work and take the next item.",
    )


def part_not_ready() -> FailedPrecondition:
    return FailedPrecondition(
        "PART_NOT_READY", "The part lacks chunks again; claim it anew when it is ready."
    )


def part_size_mismatch(part: int, size: int, stored: int) -> Internal:
    return Internal("PART_SIZE_MISMATCH", f"Part {part} has {size} bytes, {stored} are stored.")


def chunk_not_in_part(part: int, number: int) -> Internal:
    return Internal("CHUNK_NOT_IN_PART", f"Part {part} has no chunk {number}.")
