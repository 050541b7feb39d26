"""IntakeService as values of the SDK: one attempt per call, typed errors, no protobuf outside."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from sluice.upload.v1 import upload_pb2, upload_pb2_grpc
from sluice_client import translate
from sluice_client.connection import Attempt, Connection
from sluice_client.model import Limits, UploadState, UploadStatus
from sluice_client.names import request_values
from sluice_client.uploads import frames

_STREAM_METHOD = "/sluice.upload.v1.IntakeService/UploadStream"
_CALL_ENDED = (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""Errors of a write to a call that the server has ended."""


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """The arguments of InitiateUpload."""

    drive: str
    path: str
    request_id: str
    content_type: str = ""
    expected_size: int | None = None
    chunk_size: int | None = None
    sha256: bytes | None = None
    crc32c: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    if_absent: bool = False
    inline_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer of InitiateUpload."""

    upload_id: str
    node_id: str
    state: UploadState


@dataclass(frozen=True, slots=True)
class Accepted:
    """The chunk is safe at the server's durability class."""

    number: int
    size: int
    crc32c: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """Every chunk below `watermark` is in the object store."""

    number: int
    watermark: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The chunk is delayed: keep the stream open and do not resend it (rule 5)."""

    number: int
    reason: str
    needed_number: int

    @property
    def explanation(self) -> str:
        """The reason for the delay, for people."""
        what = {
            "BUDGET_FULL": "the server holds as many bytes as it may and stores them first",
            "RATE_LIMITED": "the server limits the bytes per second of the caller",
            "LOOKAHEAD_EXCEEDED": f"the server needs chunk {self.needed_number} first",
        }.get(self.reason, "the server delays the next chunk")
        return f"{what} [{self.reason}]"


StreamEvent = Accepted | Stored | Throttled


class ChunkStream:
    """One UploadStream call. One task sends, another reads `events`."""

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[frames.Frame, upload_pb2.UploadStreamResponse],
        connection: Connection,
        attempt: Attempt,
        release: Callable[[], None],
    ) -> None:
        """`release` is called when the stream is cancelled, which its owner always does."""
        self._call = call
        self._writer: Any = vars(call)["_cython_call"]
        self._connected = False
        self._connection = connection
        self._attempt = attempt
        self._release = release

    async def send(self, frame: frames.Frame) -> bool:
        """Pass one message to the connection, which copies it: the block is free afterwards.

        Return False when the stream has ended; `events` then raises the cause.
        """
        try:
            if not self._connected:
                await self._call.wait_for_connection()
                self._connected = True
            # Not `self._call.write`: when a write fails because the server has just ended the call,
            # that method replaces the server's status with INTERNAL "Internal error from Core", and
            # the reason of every refusal would be lost.
            await self._writer.send_serialized_message(frames.encode(frame))
        except _CALL_ENDED:
            return False
        return True

    async def finish(self) -> None:
        """Half-close the stream. No-op when it has ended; `events` then raises the cause."""
        with suppress(*_CALL_ENDED):
            await self._call.done_writing()

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Yield answers until the server ends the stream; raise its error."""
        try:
            async for answer in self._call:
                self._connection.answered(self._attempt)
                event = _event(answer)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise await self._connection.error(error, self._attempt) from error

    def cancel(self) -> None:
        """Cancel the call. No-op after its end."""
        self._call.cancel()
        self._release()


class IntakeApi:
    """The calls of IntakeService over one connection."""

    def __init__(self, connection: Connection, call_timeout_seconds: float) -> None:
        self.connection = connection
        self._timeout_seconds = call_timeout_seconds
        # The stub class declares a synchronous channel; the generated code works with either.
        self._stub: upload_pb2_grpc.IntakeServiceAsyncStub = upload_pb2_grpc.IntakeServiceStub(
            connection.channel
        )
        self._stream_methods = itertools.cycle(
            [
                channel.stream_stream(
                    _STREAM_METHOD,
                    request_serializer=frames.encode,
                    response_deserializer=upload_pb2.UploadStreamResponse.FromString,
                )
                for channel in connection.channels
            ]
        )

    async def limits(self) -> Limits:
        answer = await self.connection.unary(
            self._stub.GetLimits, upload_pb2.GetLimitsRequest(), self._timeout_seconds
        )
        return translate.limits(answer)

    async def initiate(self, arguments: InitiateRequest) -> Opened:
        with request_values():
            request = upload_pb2.InitiateUploadRequest(
                drive=arguments.drive,
                path=arguments.path,
                content_type=arguments.content_type,
                expected_size=arguments.expected_size,
                chunk_size=arguments.chunk_size,
                sha256=arguments.sha256,
                crc32c=arguments.crc32c,
                metadata=arguments.metadata,
                if_absent=arguments.if_absent,
                request_id=arguments.request_id,
                inline_data=arguments.inline_data,
            )
        answer = await self.connection.unary(
            self._stub.InitiateUpload, request, self._timeout_seconds
        )
        return Opened(
            upload_id=answer.upload_id,
            node_id=answer.node_id,
            state=translate.upload_state(answer.state),
        )

    async def open_stream(self) -> ChunkStream:
        """Open an UploadStream. It has no deadline; its owner supervises and cancels it."""
        metadata, attempt = await self.connection.prepare()
        call = next(self._stream_methods)(None, metadata=metadata)
        return ChunkStream(call, self.connection, attempt, self.connection.hold())

    async def complete(
        self,
        upload_id: str,
        *,
        total_chunks: int | None,
        crc32c: int | None,
        sha256: bytes | None,
        wait_seconds: float,
    ) -> UploadStatus:
        with request_values():
            request = upload_pb2.CompleteUploadRequest(
                upload_id=upload_id,
                total_chunks=total_chunks,
                crc32c=crc32c,
                sha256=sha256,
                wait=translate.duration(wait_seconds) if wait_seconds > 0 else None,
            )
        answer = await self.connection.unary(
            self._stub.CompleteUpload, request, self._timeout_seconds + wait_seconds
        )
        return translate.upload_status(answer.status)

    async def abort(self, upload_id: str) -> UploadStatus:
        with request_values():
            request = upload_pb2.AbortUploadRequest(upload_id=upload_id)
        answer = await self.connection.unary(self._stub.AbortUpload, request, self._timeout_seconds)
        return translate.upload_status(answer.status)

    async def status(self, upload_id: str) -> UploadStatus:
        with request_values():
            request = upload_pb2.GetUploadStatusRequest(upload_id=upload_id)
        answer = await self.connection.unary(
            self._stub.GetUploadStatus, request, self._timeout_seconds
        )
        return translate.upload_status(answer.status)

    async def watch(
        self, upload_id: str, after_sequence: int, timeout_seconds: float
    ) -> AsyncGenerator[UploadStatus, None]:
        """Yield snapshots after a sequence number. Raise DeadlineExceeded when the time is up."""
        with request_values():
            request = upload_pb2.WatchUploadRequest(
                upload_id=upload_id, after_sequence=after_sequence
            )
        async with aclosing(
            self.connection.pushed(self._stub.WatchUpload, request, timeout_seconds)
        ) as answers:
            async for answer in answers:
                yield translate.upload_status(answer.status)

    async def list_uploads(
        self, states: Sequence[UploadState], page_size: int, page_token: str
    ) -> tuple[list[UploadStatus], str]:
        with request_values():
            request = upload_pb2.ListUploadsRequest(
                states=[translate.upload_state_number(state) for state in states],
                page_size=page_size,
                page_token=page_token,
            )
        answer = await self.connection.unary(self._stub.ListUploads, request, self._timeout_seconds)
        return [translate.upload_status(one) for one in answer.uploads], answer.next_page_token


def _event(answer: upload_pb2.UploadStreamResponse) -> StreamEvent | None:
    """Return the event, or None for one of a newer server that this client does not know."""
    match answer.WhichOneof("event"):
        case "accepted":
            accepted = answer.accepted
            return Accepted(accepted.number, accepted.size, accepted.crc32c, accepted.duplicate)
        case "stored":
            return Stored(answer.stored.number, answer.stored.watermark)
        case "throttled":
            throttled = answer.throttled
            return Throttled(throttled.number, throttled.reason, throttled.needed_number)
        case _:
            return None
