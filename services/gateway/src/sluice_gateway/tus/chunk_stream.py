"""One UploadStream of the intake: bytes in order, without gaps."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc.aio

from sluice.upload.v1 import upload_pb2
from sluice_common.direct.call_writer import CallWriter
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.model import MAX_BLOCK_BYTES
from sluice_gateway.tus import refusals
from sluice_gateway.tus.calls import error_of

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
_ANSWER_SECONDS: Final = 180.0
"""Longer than an intake delays a chunk for want of room, so that its own error comes first."""


class ChunkStream:
    """Sends chunks one after the other.

    A chunk ends only after the one before was accepted. So the accepted chunks never have a gap,
    and their total is the offset of the upload, whenever the connection or this process ends.
    While a chunk is being accepted, the body is read on.

    Chunk numbers and offsets belong together: accepted chunks never change. Two requests that send
    from one offset at the same time therefore agree chunk by chunk, or one of them is refused.

    Args:
        call: UploadStream, opened without a serializer of requests.
        next_number: the first chunk.
        offset: its begin in the upload, in bytes.
    """

    def __init__(self, call: Any, upload_id: str, next_number: int, offset: int) -> None:
        self._call = call
        self._writer = CallWriter(call)
        self._upload_id = upload_id
        self._awaited: tuple[int, int] | None = None
        self.next_number = next_number
        self.offset = offset
        """End of the accepted bytes."""

    async def send(self, data: bytes) -> None:
        """Send one chunk of at most a block; wait for the acceptance of the one before.

        Raise the error of the intake.
        """
        await self.settle()
        checksum = crc32c(data)
        header = self._header(len(data))
        header.crc32c = checksum
        await self.write(upload_pb2.UploadStreamRequest(header=header, data=data))
        self.expect(len(data), checksum)

    async def send_large(self, size: int) -> LargeChunk:
        """Open a chunk of known size that arrives in blocks. Raise the error of the intake."""
        await self.settle()
        return LargeChunk(self, self._header(size))

    async def close(self) -> None:
        """End the stream in order, so that the intake can finish what follows an acceptance."""
        await self.settle()
        await self._bounded(self._call.done_writing())
        while await self._read() is not _EOF:
            pass

    def cancel(self) -> None:
        """End the stream now: the intake drops a chunk that is not complete. Idempotent."""
        self._call.cancel()

    def _header(self, size: int) -> upload_pb2.ChunkHeader:
        return upload_pb2.ChunkHeader(upload_id=self._upload_id, number=self.next_number, size=size)

    async def write(self, message: upload_pb2.UploadStreamRequest) -> None:
        """Send one message; wait while the intake takes none. Raise the error of the intake."""
        if not await self._bounded(self._writer.write(message.SerializeToString())):
            raise refusals.intake_unavailable("UploadStream ended early")

    def expect(self, size: int, checksum: int) -> None:
        """Note that a chunk was sent completely."""
        self._awaited = (size, checksum)

    async def settle(self) -> None:
        """Wait until everything that was sent is accepted. Raise the error of the intake."""
        if self._awaited is None:
            return
        size, checksum = self._awaited
        while True:
            answer = await self._read()
            if answer is _EOF:
                raise refusals.intake_unavailable("UploadStream ended early")
            if answer.WhichOneof("event") == "accepted":
                break
        self._awaited = None
        self.next_number += 1
        self.offset += size
        if answer.accepted.crc32c != checksum:
            raise refusals.damaged_on_the_way()

    async def _read(self) -> Any:
        return await self._bounded(self._call.read())

    async def _bounded(self, step: Any) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await step
        except TimeoutError:
            raise refusals.intake_unavailable("UploadStream does not answer") from None
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error


class LargeChunk:
    """A chunk in blocks. Its last block is sent by `finish`; without it nothing is accepted."""

    def __init__(self, stream: ChunkStream, header: upload_pb2.ChunkHeader) -> None:
        self._stream = stream
        self._header: upload_pb2.ChunkHeader | None = header
        self._size = header.size
        self._checksum = EMPTY_CRC32C
        self._held = b""

    async def append(self, data: bytes) -> None:
        """Add bytes. The newest block stays here until there is a newer one."""
        assert len(data) <= MAX_BLOCK_BYTES
        if self._held:
            await self._send(self._held)
        self._held = data
        self._checksum = crc32c(data, self._checksum)

    async def finish(self) -> None:
        """Send the last block and wait for the acceptance. Raise the error of the intake."""
        await self._send(self._held)
        self._stream.expect(self._size, self._checksum)
        await self._stream.settle()

    async def _send(self, block: bytes) -> None:
        message = upload_pb2.UploadStreamRequest(data=block)
        if self._header is not None:
            message.header.CopyFrom(self._header)
            self._header = None
        await self._stream.write(message)
