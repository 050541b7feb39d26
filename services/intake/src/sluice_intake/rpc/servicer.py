"""IntakeService: translate, delegate.

Methods that carry bytes have deserializers and limits of their own (sluice_common/rpc/frames.py),
which the generated registration does not provide for; so all methods are registered through a
generic handler.

UploadChunk is unary on the wire and a stream of one message here: a unary handler is called with
a message that is in memory already, this one holds room for it before gRPC reads it (rule 11).
A handler that waits keeps what it needs of its request and lets the message go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
import grpc.aio

from sluice.upload.v1 import upload_pb2
from sluice_common.rpc.frames import (
    Frame,
    read_chunk_frame,
    read_initiate_request,
    read_stream_frame,
)
from sluice_common.rpc.messages import ENVELOPE_BYTES, RequestFormat
from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.access.principal import current_principal
from sluice_core.errors import InvalidArgument
from sluice_core.ports import Acceptance, Admission
from sluice_intake.chunks.stalls import answers_stalled, chunk_stalled
from sluice_intake.chunks.streaming import StreamHandler
from sluice_intake.chunks.unary import WholeChunks
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc import convert
from sluice_intake.rpc.permits import BytePermits, Owner, Permit
from sluice_intake.uploads.completion import Completing
from sluice_intake.uploads.initiation import Initiating
from sluice_intake.uploads.limits import limits_of
from sluice_intake.uploads.status import Statuses
from sluice_intake.uploads.status_message import status_message

SERVICE_NAME: Final = upload_pb2.DESCRIPTOR.services_by_name["IntakeService"].full_name

_ANSWER_SECONDS: Final = 0.25
"""Kept back from a caller's deadline, so that the answer to a wait reaches it in time."""

_END: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
"""What reading gives once the client has half-closed."""

Context = grpc.aio.ServicerContext[Any, Any]


class IntakeRpc:
    """The handlers of IntakeService."""

    def __init__(
        self,
        *,
        initiating: Initiating,
        chunks: WholeChunks,
        streaming: StreamHandler,
        completing: Completing,
        statuses: Statuses,
        options: IntakeOptions,
    ) -> None:
        self._initiating = initiating
        self._chunks = chunks
        self._streaming = streaming
        self._completing = completing
        self._statuses = statuses
        self._options = options
        self._permits = BytePermits(options.unary_budget_bytes)
        self._permits.yield_seconds = options.unary_yield_seconds

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register every method of the service."""
        pb, options = upload_pb2, self._options
        # Twice an envelope: so much more inline data is too large with a reason of its own.
        initiate = RequestFormat(
            read_initiate_request, options.max_inline_bytes + 2 * ENVELOPE_BYTES
        )
        chunk = RequestFormat(
            read_chunk_frame, options.max_unary_message_bytes + ENVELOPE_BYTES, is_timed=False
        )
        block = RequestFormat(read_stream_frame, options.max_block_bytes + ENVELOPE_BYTES)
        handlers = {
            "GetLimits": _unary(self.get_limits, pb.GetLimitsRequest.FromString),
            "InitiateUpload": _unary(self.initiate_upload, initiate),
            "UploadChunk": grpc.stream_unary_rpc_method_handler(
                self.upload_chunk, chunk, _serialize
            ),
            "UploadStream": grpc.stream_stream_rpc_method_handler(
                self.upload_stream, block, _serialize
            ),
            "CompleteUpload": _unary(self.complete_upload, pb.CompleteUploadRequest.FromString),
            "AbortUpload": _unary(self.abort_upload, pb.AbortUploadRequest.FromString),
            "GetUploadStatus": _unary(self.get_upload_status, pb.GetUploadStatusRequest.FromString),
            "WatchUpload": grpc.unary_stream_rpc_method_handler(
                self.watch_upload, pb.WatchUploadRequest.FromString, _serialize
            ),
            "ListUploads": _unary(self.list_uploads, pb.ListUploadsRequest.FromString),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),)
        )

    # -- opening and ending

    async def get_limits(
        self, request: upload_pb2.GetLimitsRequest, context: Context
    ) -> upload_pb2.GetLimitsResponse:
        return convert.limits_response(limits_of(self._options))

    async def initiate_upload(
        self, request: upload_pb2.InitiateUploadRequest, context: Context
    ) -> upload_pb2.InitiateUploadResponse:
        snapshot = await self._initiating.initiate(
            current_principal(), convert.initiate_request(request, current_traceparent())
        )
        return convert.initiate_response(
            snapshot, self._options.preferred_chunk_bytes, self._options.max_block_bytes
        )

    async def complete_upload(
        self, request: upload_pb2.CompleteUploadRequest, context: Context
    ) -> upload_pb2.CompleteUploadResponse:
        wait_seconds = convert.wait_seconds(request)
        completion = await self._completing.request(
            current_principal(),
            request.upload_id,
            total_chunks=request.total_chunks if request.HasField("total_chunks") else None,
            sha256=request.sha256 if request.HasField("sha256") else None,
            crc32c=request.crc32c if request.HasField("crc32c") else None,
        )
        del request  # the wait may be long
        snapshot = completion.snapshot
        if wait_seconds > 0:
            left = context.time_remaining()
            if left is not None:
                wait_seconds = min(wait_seconds, max(left - _ANSWER_SECONDS, 0.0))
            snapshot = await self._completing.wait(snapshot, wait_seconds)
        return upload_pb2.CompleteUploadResponse(
            status=status_message(await self._statuses.of(snapshot))
        )

    async def abort_upload(
        self, request: upload_pb2.AbortUploadRequest, context: Context
    ) -> upload_pb2.AbortUploadResponse:
        snapshot = await self._completing.abort(current_principal(), request.upload_id)
        return upload_pb2.AbortUploadResponse(
            status=status_message(await self._statuses.of(snapshot))
        )

    # -- bytes

    async def upload_chunk(
        self, _requests: object, context: Context
    ) -> upload_pb2.UploadChunkResponse:
        principal = current_principal()
        options = self._options
        async with self._permits.hold(
            options.max_unary_message_bytes,
            options.unary_permit_wait_seconds,
            Owner(principal.tenant, context.peer()),
        ) as permit:
            frame = await self._read_only_message(context, permit)
            if frame.header is None:
                raise frame.error or _not_one_message()
            acceptance = await self._chunks.take(principal, frame.header, frame.data)
        return upload_pb2.UploadChunkResponse(accepted=convert.accepted(acceptance))

    async def _read_only_message(self, context: Context, permit: Permit) -> Frame:
        """The one message of a unary call; the permit shrinks to its size."""
        try:
            async with permit.reading(self._options.unary_read_seconds):
                frame = await context.read()
                if frame is _END:
                    raise _not_one_message()
                permit.shrink(len(frame.data))
                if await context.read() is not _END:
                    raise _not_one_message()
        except TimeoutError:
            raise chunk_stalled("") from None
        assert isinstance(frame, Frame)
        return frame

    async def upload_stream(self, _requests: object, context: Context) -> None:
        read_message = context.read

        async def read() -> Frame | None:
            message: Any = await read_message()
            return None if message is _END else message

        answers = _StreamAnswers(context, self._options.chunk_stall_seconds)
        await self._streaming.serve(current_principal(), read, answers)

    # -- asking

    async def get_upload_status(
        self, request: upload_pb2.GetUploadStatusRequest, context: Context
    ) -> upload_pb2.GetUploadStatusResponse:
        status = await self._statuses.get(current_principal(), request.upload_id)
        return upload_pb2.GetUploadStatusResponse(status=status_message(status))

    async def watch_upload(self, request: upload_pb2.WatchUploadRequest, context: Context) -> None:
        upload_id, after_sequence = request.upload_id, request.after_sequence
        del request  # a watch may be open for hours
        statuses = self._statuses.watch(current_principal(), upload_id, after_sequence)
        # A caller who goes away ends the watch at once, not when it is collected.
        async with aclosing(statuses):
            async for status in statuses:
                await context.write(upload_pb2.WatchUploadResponse(status=status_message(status)))

    async def list_uploads(
        self, request: upload_pb2.ListUploadsRequest, context: Context
    ) -> upload_pb2.ListUploadsResponse:
        page = await self._statuses.list(
            current_principal(),
            convert.statuses_of(request),
            request.page_size,
            request.page_token,
        )
        return upload_pb2.ListUploadsResponse(
            uploads=[status_message(status) for status in page.uploads],
            next_page_token=page.next_page_token,
        )


class _StreamAnswers:
    """Writes what a stream tells its client; gRPC takes one message at a time.

    A client that takes no answer for `stall_seconds` ends its stream: accepted chunks wait for
    their answer, and the next one holds room behind them.
    """

    def __init__(self, context: Context, stall_seconds: float) -> None:
        self._context = context
        self._stall_seconds = stall_seconds
        self._writing = asyncio.Lock()

    async def accepted(self, acceptance: Acceptance) -> None:
        await self._write(convert.accepted_event(acceptance))

    async def stored(self, watermark: int, part_number: int) -> None:
        await self._write(convert.stored_event(watermark, part_number))

    async def throttled(self, number: int, admission: Admission) -> None:
        await self._write(convert.throttled_event(number, admission))

    async def _write(self, message: upload_pb2.UploadStreamResponse) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds), self._writing:
                await self._context.write(message)
        except TimeoutError:
            raise answers_stalled() from None


def _unary(
    behavior: Callable[..., Any], deserialize: Callable[[bytes], Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(behavior, deserialize, _serialize)


def _serialize(message: Any) -> bytes:
    wire: bytes = message.SerializeToString()
    return wire


def _not_one_message() -> InvalidArgument:
    return InvalidArgument(
        "NOT_ONE_MESSAGE", "UploadChunk takes exactly one message; use UploadStream for more."
    )
