"""The gRPC handlers of IntakeService."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
import grpc.aio

from sluice.upload.v1 import upload_pb2
from sluice_common.rates.limiter import RateLimiter
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
from sluice_intake.chunks.unary import UnaryHandler
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc import convert
from sluice_intake.rpc.permits import BytePermits, Owner, Permit
from sluice_intake.uploads.completion import UploadCompleter
from sluice_intake.uploads.initiation import UploadInitiator
from sluice_intake.uploads.limits import limits_of
from sluice_intake.uploads.status import StatusReader
from sluice_intake.uploads.status_message import status_message

SERVICE_NAME: Final = upload_pb2.DESCRIPTOR.services_by_name["IntakeService"].full_name

_RESPONSE_RESERVE_SECONDS: Final = 0.25
"""Part of a caller's deadline that is reserved for the response to a wait."""

_HALF_CLOSED: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
"""The result of a read once the client has half-closed."""

Context = grpc.aio.ServicerContext[Any, Any]


class IntakeRpc:
    """The handlers of IntakeService, which convert messages and delegate to the stages.

    Methods that carry bytes have their own deserializers and limits (sluice_common/rpc/frames.py).
    The generated registration does not support them, so all methods use a generic handler.

    A handler that waits copies the fields it needs and releases its request message.
    """

    def __init__(
        self,
        *,
        initiator: UploadInitiator,
        unary: UnaryHandler,
        streams: StreamHandler,
        completer: UploadCompleter,
        statuses: StatusReader,
        options: IntakeOptions,
        limiter: RateLimiter | None = None,
    ) -> None:
        self._limiter = limiter
        self._initiator = initiator
        self._unary = unary
        self._streams = streams
        self._completer = completer
        self._statuses = statuses
        self._options = options
        self._permits = BytePermits(options.unary_budget_bytes)
        self._permits.yield_seconds = options.unary_yield_seconds

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register every method of the service."""
        pb, options = upload_pb2, self._options
        # Two envelopes, so that slightly oversized inline data gets INLINE_TOO_LARGE.
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

    # -- lifecycle

    async def get_limits(
        self, request: upload_pb2.GetLimitsRequest, context: Context
    ) -> upload_pb2.GetLimitsResponse:
        return convert.limits_response(limits_of(self._options), self._limiter)

    async def initiate_upload(
        self, request: upload_pb2.InitiateUploadRequest, context: Context
    ) -> upload_pb2.InitiateUploadResponse:
        principal = current_principal()
        if self._limiter is not None:
            await self._limiter.admit_bytes(principal, len(request.inline_data))
        snapshot = await self._initiator.initiate(
            principal, convert.initiate_request(request, current_traceparent())
        )
        return convert.initiate_response(
            snapshot, self._options.preferred_chunk_bytes, self._options.max_block_bytes
        )

    async def complete_upload(
        self, request: upload_pb2.CompleteUploadRequest, context: Context
    ) -> upload_pb2.CompleteUploadResponse:
        wait_seconds = convert.wait_seconds(request)
        completion = await self._completer.request(
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
                wait_seconds = min(wait_seconds, max(left - _RESPONSE_RESERVE_SECONDS, 0.0))
            snapshot = await self._completer.wait(snapshot, wait_seconds)
        return upload_pb2.CompleteUploadResponse(
            status=status_message(await self._statuses.of(snapshot))
        )

    async def abort_upload(
        self, request: upload_pb2.AbortUploadRequest, context: Context
    ) -> upload_pb2.AbortUploadResponse:
        snapshot = await self._completer.abort(current_principal(), request.upload_id)
        return upload_pb2.AbortUploadResponse(
            status=status_message(await self._statuses.of(snapshot))
        )

    # -- bytes

    async def upload_chunk(
        self, _requests: object, context: Context
    ) -> upload_pb2.UploadChunkResponse:
        """Handle UploadChunk, unary on the wire, as a stream of one message.

        A unary handler would be called with the message in memory already. A stream handler can
        hold a permit before gRPC reads it (rule 11).
        """
        principal = current_principal()
        options, limiter = self._options, self._limiter
        if limiter is not None:
            # Before the message is read: a refused caller sends no bytes, and a delayed one
            # holds no permit.
            await limiter.admit_bytes(principal)
        async with self._permits.hold(
            options.max_unary_message_bytes,
            options.unary_permit_wait_seconds,
            Owner(principal.tenant, context.peer()),
        ) as permit:
            if limiter is not None:
                # Again: calls that waited for a permit may all have been admitted before the first
                # of them was charged.
                await limiter.check_bytes(principal)
            frame = await self._read_only_message(context, permit)
            if frame.header is None:
                raise frame.error or _not_one_message()
            if limiter is not None:
                await limiter.charge_bytes(principal, len(frame.data) - 1)
            acceptance = await self._unary.accept(principal, frame.header, frame.data)
        return upload_pb2.UploadChunkResponse(accepted=convert.accepted(acceptance))

    async def _read_only_message(self, context: Context, permit: Permit) -> Frame:
        """Read the only message of a unary call and shrink the permit to its size."""
        try:
            async with permit.reading(self._options.unary_read_seconds):
                frame = await context.read()
                if frame is _HALF_CLOSED:
                    raise _not_one_message()
                permit.shrink(len(frame.data))
                if await context.read() is not _HALF_CLOSED:
                    raise _not_one_message()
        except TimeoutError:
            raise chunk_stalled("") from None
        assert isinstance(frame, Frame)
        return frame

    async def upload_stream(self, _requests: object, context: Context) -> None:
        read_message = context.read

        async def read() -> Frame | None:
            message: Any = await read_message()
            return None if message is _HALF_CLOSED else message

        responses = _StreamResponseWriter(context, self._options.chunk_stall_seconds)
        await self._streams.serve(current_principal(), read, responses)

    # -- queries

    async def get_upload_status(
        self, request: upload_pb2.GetUploadStatusRequest, context: Context
    ) -> upload_pb2.GetUploadStatusResponse:
        status = await self._statuses.get(current_principal(), request.upload_id)
        message = status_message(status)
        # Not in every status: up to 8 KiB, which never change.
        message.metadata.update(status.snapshot.new.metadata)
        return upload_pb2.GetUploadStatusResponse(status=message)

    async def watch_upload(self, request: upload_pb2.WatchUploadRequest, context: Context) -> None:
        upload_id, after_sequence = request.upload_id, request.after_sequence
        del request  # a watch may be open for hours
        statuses = self._statuses.watch(current_principal(), upload_id, after_sequence)
        # Close the watch as soon as the caller cancels, not when the generator is collected.
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


class _StreamResponseWriter:
    """Writes the responses of a stream, one at a time as gRPC requires.

    The stream fails when its client reads no response for `stall_seconds`: accepted chunks wait
    for their acknowledgement, and the next chunk holds room behind them.
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
