"""Bounded pool of PutChunks streams to the repository."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import grpc.aio
import structlog

from sluice.repository.v1 import chunk_sink_pb2
from sluice.upload.v1.upload_pb2 import Accepted
from sluice_common.direct.call_writer import CallWriter
from sluice_common.direct.errors import repository_unavailable, to_client_error
from sluice_common.direct.options import DirectOptions
from sluice_core.errors import Internal, ResourceExhausted, SluiceError

T = TypeVar("T")

_SERVICE: Final = chunk_sink_pb2.DESCRIPTOR.services_by_name["ChunkSinkService"].full_name
_METHOD: Final = f"/{_SERVICE}/PutChunks"
_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it

_log = structlog.get_logger(__name__)


class SinkStream:
    """One PutChunks call; carries one chunk at a time."""

    def __init__(self, call: Any, options: DirectOptions, now: float) -> None:
        self._call = call
        self._writer = CallWriter(call)
        self._options = options
        self._retire_at = now + options.max_stream_seconds
        self._in_chunk = False

    def is_reusable(self, now: float) -> bool:
        """Return whether the stream is between chunks, alive and not too old."""
        return not self._in_chunk and not self._call.done() and now < self._retire_at

    async def send(self, message: bytes) -> None:
        """Send one message; wait while the HTTP/2 window is full (back-pressure)."""
        self._in_chunk = True
        if not await self._within_bounds(self._writer.write(message)):
            raise repository_unavailable(self._options.retry_after_seconds)

    async def accepted(self) -> Accepted:
        """Return the answer to the chunk whose last block was sent."""
        answer = await self._within_bounds(self._call.read())
        if answer is _EOF:
            # A repository that stops ends its streams between chunks, without this chunk.
            raise repository_unavailable(self._options.retry_after_seconds)
        self._in_chunk = False
        accepted: Accepted = answer.accepted
        return accepted

    def cancel(self) -> None:
        """Cancel the call; the repository drops an unfinished chunk."""
        self._call.cancel()

    async def _within_bounds(self, step: Awaitable[T]) -> T:
        """Await a step; raise `Unavailable` REPOSITORY_UNAVAILABLE and the repository's refusal."""
        retry_after_seconds = self._options.retry_after_seconds
        try:
            async with asyncio.timeout(self._options.stall_seconds):
                return await step
        except TimeoutError as error:
            raise repository_unavailable(retry_after_seconds) from error
        except grpc.aio.AioRpcError as error:
            raise _client_error(error, retry_after_seconds) from error


class SinkStreams:
    """The streams of one intake; `close` ends them.

    Args:
        channel: to the repository; owned by the caller, who closes it after this.
        options: bounds.
        metadata: sent with every call; identifies the intake to the repository.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        options: DirectOptions,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._open: Any = channel.stream_stream(
            _METHOD,
            request_serializer=None,  # messages are wire bytes already
            response_deserializer=chunk_sink_pb2.PutChunksResponse.FromString,
        )
        self._options = options
        self._metadata = metadata
        self._slots = asyncio.Semaphore(options.max_streams)
        self._idle: dict[SinkStream, asyncio.TimerHandle] = {}

    async def acquire(self) -> SinkStream:
        """Return a stream for one chunk; call `release` afterwards.

        Raise `ResourceExhausted` TRANSPORT_BUSY if none becomes free in time.
        """
        try:
            async with asyncio.timeout(self._options.wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise ResourceExhausted(
                "TRANSPORT_BUSY",
                "Too many chunks are in transit to the repository; send the chunk again.",
                retry_after_seconds=self._options.retry_after_seconds,
            ) from None
        now = asyncio.get_running_loop().time()
        while self._idle:
            # LIFO: streams beyond the need become idle and are closed.
            stream, ending = self._idle.popitem()
            ending.cancel()
            if stream.is_reusable(now):
                return stream
            stream.cancel()
        return SinkStream(self._open(metadata=self._metadata), self._options, now)

    def release(self, stream: SinkStream) -> None:
        """Return a stream to the pool; cancel one in the middle of a chunk."""
        self._slots.release()
        loop = asyncio.get_running_loop()
        if not stream.is_reusable(loop.time()):
            stream.cancel()
            return
        self._idle[stream] = loop.call_later(self._options.idle_seconds, self._end, stream)

    def close(self) -> None:
        """Close the idle streams; those in use end with their chunks."""
        for stream in tuple(self._idle):
            self._end(stream)

    def _end(self, stream: SinkStream) -> None:
        # To the repository, the cancellation looks like the end of the stream.
        self._idle.pop(stream).cancel()
        stream.cancel()


def _client_error(error: grpc.aio.AioRpcError, retry_after_seconds: float) -> SluiceError:
    translated = to_client_error(error, retry_after_seconds)
    if isinstance(translated, Internal):
        _log.error("chunk_sink.refused", details=error.details(), reason=translated.log_detail)
    return translated
