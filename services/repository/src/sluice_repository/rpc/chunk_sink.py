"""ChunkSinkService, the repository's half of the direct transport.

`sluice_common/direct/chunks.py` is the intake's half.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
import grpc.aio

from sluice.repository.v1 import chunk_sink_pb2 as pb
from sluice.upload.v1.upload_pb2 import Accepted
from sluice_common.rpc.chunk_errors import (
    block_before_header,
    block_too_large,
    chunk_incomplete,
    chunk_open,
    chunk_overrun,
)
from sluice_common.rpc.frames import Frame, Header, read_stream_frame
from sluice_common.rpc.messages import ENVELOPE_BYTES, RequestFormat
from sluice_core.errors import DataLoss, InvalidArgument, SluiceError
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.chunk_checks import check_name
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MAX_CHUNK_BYTES
from sluice_core.uploads.names import check_chunk_number
from sluice_repository.metrics import RepositoryMetrics

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["ChunkSinkService"].full_name

_END: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it

Context = grpc.aio.ServicerContext[Any, Any]


def add_chunk_sink(
    server: grpc.aio.Server,
    metrics: RepositoryMetrics,
    stop: asyncio.Event,
    max_chunk_bytes: int = MAX_CHUNK_BYTES,
) -> None:
    """Serve ChunkSinkService on `server`; its interceptors map errors.

    Args:
        stop: once it is set, streams end after the current chunk, so that a stop waits for chunks
            and not for streams.
    """
    sink = ChunkSink(metrics, stop, max_chunk_bytes)
    # The generated registration does not accept another deserializer.
    handlers = {
        "PutChunks": grpc.stream_stream_rpc_method_handler(
            sink.put_chunks,
            RequestFormat(read_stream_frame, MAX_BLOCK_BYTES + ENVELOPE_BYTES),
            pb.PutChunksResponse.SerializeToString,
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))


class ChunkSink:
    """Handler of ChunkSinkService: verifies, counts and discards chunks from an intake.

    Memory is bounded by one block per stream: the handler reads the next message only after it has
    processed the current one, and HTTP/2 flow control holds the sender meanwhile. A block stays in
    the bytes that gRPC received; no message object is created for it.
    """

    def __init__(
        self, metrics: RepositoryMetrics, stop: asyncio.Event, max_chunk_bytes: int
    ) -> None:
        self._metrics = metrics
        self._stop = stop
        self._max_chunk_bytes = max_chunk_bytes

    async def put_chunks(self, _requests: object, context: Context) -> None:
        """Acknowledge each complete chunk until the intake half-closes the stream.

        Raise `InvalidArgument` and `OutOfRange` for an intake that violates the protocol, and
        `DataLoss` CHECKSUM_MISMATCH; chunks acknowledged before stay acknowledged.
        """
        while not self._stop.is_set() and (frame := await _next_frame(context)) is not None:
            accepted = await self._receive(context, frame)
            await context.write(pb.PutChunksResponse(accepted=accepted))

    async def _receive(self, context: Context, frame: Frame) -> Accepted:
        """Receive one chunk whose first message is `frame`, and count it by its outcome."""
        outcome = "CANCELLED"  # unless replaced: cancelled by the intake or by a stop
        try:
            header = self._checked(frame.header)
            accepted = await _read_chunk(context, header, frame.data)
            outcome = "ACCEPTED"
            self._metrics.sink_bytes.inc(header.size)
            return accepted
        except SluiceError as error:
            outcome = error.reason
            raise
        finally:
            self._metrics.sink_chunks.labels(outcome).inc()

    def _checked(self, header: Header | None) -> Header:
        if header is None:
            raise block_before_header()
        check_name(header.upload_id, "upload_id")
        check_chunk_number(header.number)
        if not 0 <= header.size <= self._max_chunk_bytes:
            raise InvalidArgument(
                "CHUNK_TOO_LARGE",
                f"A chunk has 0 to {self._max_chunk_bytes} bytes; give both services the same "
                "SLUICE_LIMITS__MAX_CHUNK_BYTES.",
                field="size",
                metadata=_of(header),
            )
        return header


async def _read_chunk(context: Context, header: Header, data: memoryview) -> Accepted:
    """Read one chunk to its last byte and return its size and CRC32C."""
    missing_bytes, crc = header.size, EMPTY_CRC32C
    while True:
        if len(data) > MAX_BLOCK_BYTES:
            raise block_too_large(header.number, MAX_BLOCK_BYTES, header.upload_id)
        if len(data) > missing_bytes:
            raise chunk_overrun(header.number, header.size, header.upload_id)
        crc = crc32c(data, crc)
        missing_bytes -= len(data)
        if missing_bytes == 0:
            break
        frame = await _next_frame(context)
        if frame is None:
            raise chunk_incomplete(header.number, missing_bytes, header.upload_id)
        if frame.header is not None:
            raise chunk_open(header.number, missing_bytes, header.upload_id)
        data = frame.data
    if header.crc32c is not None and header.crc32c != crc:
        raise DataLoss(
            "CHECKSUM_MISMATCH",
            f"Chunk {header.number} does not match its CRC32C; send it again.",
            metadata=_of(header),
        )
    return Accepted(number=header.number, size=header.size, crc32c=crc)


async def _next_frame(context: Context) -> Frame | None:
    """Return the next message; None once the intake has half-closed or disconnected."""
    frame: Any = await context.read()
    if frame is _END:
        return None
    assert isinstance(frame, Frame)
    if frame.error is not None:
        raise frame.error
    return frame


def _of(header: Header) -> dict[str, str]:
    return {"upload_id": header.upload_id, "number": str(header.number)}
