"""Streaming request body, written block by block from its source to the socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import Payload

from sluice_backends.s3.errors import checksum_mismatch
from sluice_backends.s3.stall_timeout import StallTimeout
from sluice_core.objects.body import closing, verified
from sluice_core.ports.object_store import Body

_PIECE_BYTES = 256 * 1024
"""Size of one write; each accepted piece counts as progress."""


class RequestBody(Payload):
    """A port's `Body` as a payload of the HTTP client; each send starts from the beginning.

    aiobotocore accepts bytes or a file and would read a whole file to sign it. This "file" is a
    payload that writes itself: no block is copied, and at most two are in memory.

    The payload is not signed (UNSIGNED-PAYLOAD). Its CRC32C is, in a header, and the store rejects
    other bytes. This also avoids a SHA-256 of the body, which costs more than sending it.

    Args:
        stall: reset on progress and paused while the source is awaited.
        verify: compute the CRC32C while sending, for a store that does not.
        expects_continue: whether to send `Expect: 100-continue`. Without it, a store may reject the
            body by closing the connection, without a reason.
    """

    _autoclose = True

    def __init__(
        self, body: Body, stall: StallTimeout, *, verify: bool, expects_continue: bool = True
    ) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._size = body.size
        self._body = body
        self._stall = stall
        self._verify = verify
        self.expects_continue = expects_continue
        self._idle = asyncio.Event()
        self._idle.set()
        self.failure: Exception | None = None
        """Error of the source, or a checksum mismatch; the client wraps it beyond recognition."""

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        transport = writer.transport if isinstance(writer, StreamWriter) else None
        self._idle.clear()
        self.failure = None
        try:
            blocks = verified(self._body) if self._verify else self._body.blocks()
            async with closing(blocks):
                await self._send(writer, blocks)
        except BaseException:
            # The client only closes the transport, and close waits until a stalled store has
            # accepted the buffered data.
            if transport is not None:
                transport.abort()
            raise
        finally:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until nothing reads the source.

        The client's writer task outlives a request that ended early by a few loop iterations.
        """
        await self._idle.wait()

    async def _send(self, writer: AbstractStreamWriter, blocks: AsyncIterator[bytes]) -> None:
        """Write each block once the next one is read.

        The last block is thus sent only after the body is verified, so the store never receives a
        complete wrong body.
        """
        sent = 0
        block = await self._next(blocks)
        while block is not None:
            following = await self._next(blocks)
            sent += len(block)
            if (following is None) != (sent == self._body.size):
                break
            for piece in _pieces(block):
                await writer.write(piece)
                self._stall.reset()
            block = following
        if block is not None or sent != self._body.size:
            self.failure = checksum_mismatch()
            raise self.failure

    async def _next(self, blocks: AsyncIterator[bytes]) -> bytes | None:
        with self._stall.paused():
            try:
                return await anext(blocks, None)
            except Exception as failure:
                self.failure = failure
                raise

    # botocore requires a file but never reads it: it neither signs nor checksums the payload.

    def read(self, size: int = -1) -> NoReturn:
        raise io.UnsupportedOperation("read")

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> NoReturn:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> NoReturn:
        raise io.UnsupportedOperation("tell")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:
        raise io.UnsupportedOperation("decode")


def _pieces(block: bytes) -> Iterator[bytes | memoryview]:
    if len(block) <= _PIECE_BYTES:
        yield block
        return
    view = memoryview(block)
    for start in range(0, len(block), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]
