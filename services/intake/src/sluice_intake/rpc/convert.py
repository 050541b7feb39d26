"""Conversion between wire messages and the model, the only place that reads or builds them."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from sluice.upload.v1 import upload_pb2
from sluice_common.rates.limiter import RateLimiter
from sluice_core.combinations import Durability
from sluice_core.errors import InvalidArgument
from sluice_core.ports import Acceptance, Admission, Verdict
from sluice_core.rates.model import RateKind
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from sluice_core.uploads.names import check_metadata_count
from sluice_intake.uploads.initiation import InitiateRequest
from sluice_intake.uploads.limits import Limits
from sluice_intake.uploads.status_message import STATES, timestamp

_STATUSES = {state: status for status, state in STATES.items()}
_MAX_STATES = 64
"""Most states in one request, duplicates included; the enum has far fewer."""
_DURABILITIES = {
    Durability.MEMORY: upload_pb2.DURABILITY_MEMORY,
    Durability.REPLICATED: upload_pb2.DURABILITY_REPLICATED,
    Durability.FSYNC: upload_pb2.DURABILITY_FSYNC,
}


# ------------------------------------------------------------------ requests


def initiate_request(
    message: upload_pb2.InitiateUploadRequest, trace_parent: str
) -> InitiateRequest:
    # First, so that an oversized map is refused before it is copied.
    check_metadata_count(message.metadata)
    return InitiateRequest(
        drive=message.drive,
        path=message.path,
        content_type=message.content_type,
        expected_size=message.expected_size if message.HasField("expected_size") else None,
        chunk_size=message.chunk_size if message.HasField("chunk_size") else None,
        sha256=message.sha256 if message.HasField("sha256") else None,
        crc32c=message.crc32c if message.HasField("crc32c") else None,
        metadata=dict(message.metadata),
        if_absent=message.if_absent,
        request_id=message.request_id,
        inline_data=message.inline_data if message.HasField("inline_data") else None,
        trace_parent=trace_parent,
    )


def wait_seconds(message: upload_pb2.CompleteUploadRequest) -> float:
    """Return the requested wait in seconds; 0 without one."""
    seconds = message.wait.seconds + message.wait.nanos / 1e9
    if seconds < 0:
        raise InvalidArgument("BAD_WAIT", "The wait is negative; send 0 or more.", field="wait")
    return seconds


def statuses_of(message: upload_pb2.ListUploadsRequest) -> frozenset[UploadStatus]:
    """Return the requested states; empty means all."""
    if len(message.states) > _MAX_STATES:
        raise InvalidArgument(
            "TOO_MANY_STATES", "Name each state once, or none to list all.", field="states"
        )
    unknown = set(message.states) - set(_STATUSES)
    if unknown:
        raise InvalidArgument(
            "BAD_STATE", "Name states of the enum, not UPLOAD_STATE_UNSPECIFIED.", field="states"
        )
    return frozenset(_STATUSES[state] for state in message.states)


# ------------------------------------------------------------------ responses


def limits_response(
    limits: Limits, limiter: RateLimiter | None = None
) -> upload_pb2.GetLimitsResponse:
    return upload_pb2.GetLimitsResponse(
        max_block_bytes=limits.max_block_bytes,
        max_chunk_bytes=limits.max_chunk_bytes,
        max_unary_message_bytes=limits.max_unary_message_bytes,
        preferred_chunk_bytes=limits.preferred_chunk_bytes,
        part_bytes=limits.part_bytes,
        max_object_bytes=limits.max_object_bytes,
        max_chunks=limits.max_chunks,
        max_inline_bytes=limits.max_inline_bytes,
        idle_lifetime=_duration(limits.idle_lifetime_seconds),
        total_lifetime=_duration(limits.total_lifetime_seconds),
        durability=_DURABILITIES[limits.durability],
        look_ahead_bytes=limits.look_ahead_bytes,
        rate_limits=_rate_limits(limiter),
    )


def _rate_limits(limiter: RateLimiter | None) -> upload_pb2.RateLimits:
    if limiter is None:
        return upload_pb2.RateLimits()
    return upload_pb2.RateLimits(
        uploads_per_minute=limiter.limit(RateKind.UPLOADS),
        calls_per_second=limiter.limit(RateKind.CALLS),
        bytes_per_second=limiter.limit(RateKind.BYTES),
    )


def initiate_response(
    snapshot: UploadSnapshot, preferred_chunk_bytes: int, max_block_bytes: int
) -> upload_pb2.InitiateUploadResponse:
    return upload_pb2.InitiateUploadResponse(
        upload_id=snapshot.upload_id,
        node_id=snapshot.new.node_id,
        state=STATES[snapshot.status],
        chunk_size=snapshot.new.chunk_size or preferred_chunk_bytes,
        part_bytes=snapshot.new.part_bytes,
        max_block_bytes=max_block_bytes,
        expires_at=timestamp(snapshot.expires_at),
    )


def accepted(acceptance: Acceptance) -> upload_pb2.Accepted:
    return upload_pb2.Accepted(
        number=acceptance.chunk.number,
        size=acceptance.chunk.size,
        crc32c=acceptance.chunk.crc32c,
        duplicate=acceptance.verdict is Verdict.DUPLICATE,
        received_bytes=acceptance.snapshot.received_bytes,
    )


def accepted_event(acceptance: Acceptance) -> upload_pb2.UploadStreamResponse:
    return upload_pb2.UploadStreamResponse(accepted=accepted(acceptance))


def stored_event(watermark: int, part_number: int) -> upload_pb2.UploadStreamResponse:
    return upload_pb2.UploadStreamResponse(
        stored=upload_pb2.Stored(number=watermark - 1, watermark=watermark, part_number=part_number)
    )


def throttled_event(number: int, admission: Admission) -> upload_pb2.UploadStreamResponse:
    return upload_pb2.UploadStreamResponse(
        throttled=upload_pb2.Throttled(
            number=number, reason=admission.reason, needed_number=admission.needed_number
        )
    )


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(seconds * 1_000_000_000))
    return message
