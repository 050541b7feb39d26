"""The uploads of the intake, as the tus server sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio

from sluice.upload.v1 import upload_pb2, upload_pb2_grpc
from sluice_core.uploads.partial import CONCAT_KEY
from sluice_gateway.tus import refusals
from sluice_gateway.tus.calls import answered, caller_metadata
from sluice_gateway.tus.chunk_stream import ChunkStream
from sluice_gateway.tus.headers import Concat
from sluice_gateway.tus.targets import Target

_CALL_SECONDS: Final = 10.0
_SERVICE: Final = upload_pb2.DESCRIPTOR.services_by_name["IntakeService"].full_name
_OPEN: Final = frozenset({upload_pb2.UPLOAD_STATE_PENDING, upload_pb2.UPLOAD_STATE_UPLOADING})
_SUCCEEDING: Final = frozenset(
    {upload_pb2.UPLOAD_STATE_COMPLETING, upload_pb2.UPLOAD_STATE_COMPLETED}
)


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload.

    offset: end of the contiguous accepted bytes.
    next_number: number of the chunk that begins there.
    length: bytes of the whole upload.
    is_open: whether it takes bytes.
    is_stored: whether its node exists.
    expires_at: Unix seconds; None if it does not expire any more.
    metadata: as its client sent it.
    concat: `Upload-Concat`, empty for an upload that is neither partial nor final.
    """

    upload_id: str
    node_id: str
    offset: int
    next_number: int
    length: int
    is_open: bool
    is_stored: bool
    expires_at: float | None
    metadata: Mapping[str, str]
    concat: str

    @property
    def is_partial(self) -> bool:
        return self.concat == str(Concat())

    @property
    def is_final(self) -> bool:
        return bool(self.concat) and not self.is_partial

    @property
    def has_all_bytes(self) -> bool:
        return self.offset == self.length


class IntakeUploads:
    """Uploads of the caller of the current request, by calls to the intake with his token.

    Args:
        channel: to the intake; owned by the caller.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = upload_pb2_grpc.IntakeServiceStub(channel)
        untyped: Any = channel  # its stubs want a serializer, `CallWriter` wants none
        self._open_stream: Any = untyped.stream_stream(
            f"/{_SERVICE}/UploadStream",
            response_deserializer=upload_pb2.UploadStreamResponse.FromString,
        )

    async def create(self, target: Target, length: int, request_id: str) -> str:
        """Create an upload and return its id; an empty one is complete at once.

        Args:
            request_id: a repetition with the same one returns the upload of the first call; empty
                for a new upload in any case.

        Raise the errors of InitiateUpload.
        """
        request = upload_pb2.InitiateUploadRequest(
            drive=target.drive,
            path=target.path,
            content_type=target.content_type,
            metadata=target.attributes,
            request_id=request_id,
        )
        if length == 0:
            request.inline_data = b""
        else:
            request.expected_size = length
        response = await answered(
            self._stub.InitiateUpload(request, timeout=_CALL_SECONDS, metadata=caller_metadata())
        )
        return response.upload_id

    async def get(self, upload_id: str) -> Upload:
        """Return an upload that has not failed.

        Raise `NotFound` UPLOAD_NOT_FOUND, UPLOAD_LOST, or UPLOAD_GONE for one that was terminated,
        expired, failed, or lost bytes that its client cannot know of.
        """
        request = upload_pb2.GetUploadStatusRequest(upload_id=upload_id)
        response = await answered(
            self._stub.GetUploadStatus(request, timeout=_CALL_SECONDS, metadata=caller_metadata())
        )
        return _upload_of(response.status)

    async def complete(self, upload: Upload, seconds: float) -> bool:
        """Complete an upload that has all bytes; return whether its node exists.

        Args:
            seconds: how long to wait for the node.

        Raise the error with which the upload failed.
        """
        request = upload_pb2.CompleteUploadRequest(
            upload_id=upload.upload_id,
            total_chunks=upload.next_number,
        )
        request.wait.FromMilliseconds(int(seconds * 1000))
        response = await answered(
            self._stub.CompleteUpload(
                request, timeout=_CALL_SECONDS + seconds, metadata=caller_metadata()
            )
        )
        return response.status.state == upload_pb2.UPLOAD_STATE_COMPLETED

    async def abort(self, upload_id: str) -> None:
        """Abort an upload and free its bytes. Raise `FailedPrecondition` UPLOAD_COMPLETING."""
        request = upload_pb2.AbortUploadRequest(upload_id=upload_id)
        await answered(
            self._stub.AbortUpload(request, timeout=_CALL_SECONDS, metadata=caller_metadata())
        )

    def stream(self, upload: Upload) -> ChunkStream:
        """Return a stream of chunks that continues an upload."""
        call = self._open_stream(metadata=caller_metadata())
        return ChunkStream(call, upload.upload_id, upload.next_number, upload.offset)


def _upload_of(status: upload_pb2.UploadStatus) -> Upload:
    state = status.state
    if state not in _OPEN and state not in _SUCCEEDING:
        name = upload_pb2.UploadState.Name(state).removeprefix("UPLOAD_STATE_")
        raise refusals.upload_gone(name, status.failure_reason)
    is_open = state in _OPEN
    if status.HasField("chunk_size") or not status.HasField("expected_size"):
        raise refusals.upload_not_found()  # of another kind of client
    if is_open and (status.missing_truncated or _has_gap(status)):
        # A stored chunk was damaged, or another client has sent chunks. Where the gap begins in
        # bytes is unknown.
        raise refusals.upload_gone("DAMAGED", "")
    metadata = dict(status.metadata)
    concat = metadata.pop(CONCAT_KEY, "")
    length = status.expected_size
    return Upload(
        upload_id=status.upload_id,
        node_id=status.node_id,
        offset=status.received_bytes if is_open else length,
        next_number=status.received_chunks,
        length=length,
        is_open=is_open,
        is_stored=state == upload_pb2.UPLOAD_STATE_COMPLETED,
        expires_at=status.expires_at.ToNanoseconds() / 1e9 if is_open else None,
        metadata=metadata,
        concat=concat,
    )


def _has_gap(status: upload_pb2.UploadStatus) -> bool:
    return any(gap.first < status.received_chunks for gap in status.missing)
