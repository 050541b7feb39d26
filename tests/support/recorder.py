"""A gRPC proxy between clients and a server that records their messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import grpc
import grpc.aio

from sluice.upload.v1 import upload_pb2
from support.sending import forward_all
from support.wire import CHANNEL_OPTIONS, EOF

_INTAKE = "/sluice.upload.v1.IntakeService/"
# Clients behind the proxy must see a restarted server at once.
_BACKEND = [
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class CallListener(Protocol):
    """Observer of one call's serialized messages; it sees an answer before the client does."""

    def request(self, message: bytes) -> None: ...

    def answer(self, message: bytes) -> None: ...


class Listener(Protocol):
    """Observer of all calls; several recorders may share one."""

    def call(self, method: str) -> CallListener: ...


def received_numbers(status: upload_pb2.UploadStatus) -> set[int]:
    """Return the chunks that a status reports as received."""
    missing = {n for gap in status.missing for n in range(gap.first, gap.last + 1)}
    bound = (
        status.total_chunks
        if status.HasField("total_chunks")
        else status.received_chunks + len(missing)
    )
    return set(range(bound)) - missing


def _status_of(error: grpc.aio.AioRpcError) -> grpc.StatusCode:
    """Return the status to forward.

    After a write that fails because the server is gone, grpc.aio replaces the status by its own
    (https://github.com/grpc/grpc/issues/36066).
    """
    if error.details() == "Internal error from Core":
        return grpc.StatusCode.UNAVAILABLE
    return error.code()


class Recorder(grpc.GenericRpcHandler):  # type: ignore[type-arg] # not generic at run time
    """Forwards raw messages of every call to `target` unchanged, and records chunks.

    `resent` are the chunks sent again after a status reported them as received, which the crash
    tests forbid. `listener` observes every call.
    """

    def __init__(self, target: str, listener: Listener | None = None) -> None:
        self.address = ""
        self.accepted_bytes = 0
        self.sent: list[int] = []
        self.reported_received: set[int] = set()
        self.resent: list[int] = []
        self._target = target
        self._listener = listener
        self._channel: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        assert self._channel is not None
        return self._channel

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Recorder]:
        async with grpc.aio.insecure_channel(self._target, options=_BACKEND) as channel:
            self._channel = channel
            server = grpc.aio.server(options=CHANNEL_OPTIONS)
            server.add_generic_rpc_handlers((self,))
            self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            try:
                yield self
            finally:
                await server.stop(None)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = str(details.method)

        async def forward(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._forward(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(forward)

    async def _forward(self, method: str, requests: AsyncIterator[bytes], context: Any) -> None:
        """Forward any kind of call as a stream of messages, which all of them are on the wire."""
        open_call: Any = self.channel.stream_stream(
            method, request_serializer=None, response_deserializer=None
        )
        call = open_call(metadata=context.invocation_metadata())
        listener = self._listener.call(method) if self._listener is not None else None

        async def recorded() -> AsyncIterator[bytes]:
            async for request in requests:
                self._note_request(method, request)
                if listener is not None:
                    listener.request(request)
                yield request

        # If the call ends while this task sends, the reader below sees the same end.
        pumping = asyncio.create_task(forward_all(call, recorded()))
        try:
            while (answer := await call.read()) is not EOF:
                self._note_answer(method, answer)
                if listener is not None:
                    listener.answer(answer)
                await context.write(answer)
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                trailers = tuple(await call.trailing_metadata() or ())
                await context.abort(code, await call.details(), trailers)
        except grpc.aio.AioRpcError as error:
            trailers = tuple(error.trailing_metadata() or ())
            await context.abort(_status_of(error), error.details() or "", trailers)
        finally:
            pumping.cancel()
            call.cancel()
            await asyncio.gather(pumping, return_exceptions=True)

    def _note_request(self, method: str, message: bytes) -> None:
        if method == f"{_INTAKE}UploadStream":
            request = upload_pb2.UploadStreamRequest.FromString(message)
            if request.HasField("header"):
                self._note_sent(request.header.number)
        elif method == f"{_INTAKE}UploadChunk":
            self._note_sent(upload_pb2.UploadChunkRequest.FromString(message).number)

    def _note_sent(self, number: int) -> None:
        self.sent.append(number)
        if number in self.reported_received:
            self.resent.append(number)

    def _note_answer(self, method: str, message: bytes) -> None:
        if method == f"{_INTAKE}UploadStream":
            answer = upload_pb2.UploadStreamResponse.FromString(message)
            if answer.WhichOneof("event") == "accepted":
                self.accepted_bytes += 0 if answer.accepted.duplicate else answer.accepted.size
        elif method == f"{_INTAKE}GetUploadStatus":
            status = upload_pb2.GetUploadStatusResponse.FromString(message).status
            # Only the latest status counts: a damaged chunk may be missing again.
            self.reported_received = received_numbers(status)
