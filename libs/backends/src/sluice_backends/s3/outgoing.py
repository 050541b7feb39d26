"""The body of a request, block by block from its source into the socket.

aiobotocore takes bytes or a file, and would read a file whole to sign it; the bytes of a part come
from another store and are not worth collecting. So the "file" is a payload of the HTTP client,
which writes itself: no block is copied, and at most two are in memory.

The payload is not signed (UNSIGNED-PAYLOAD). What is signed is its CRC32C, in a header, and the
store refuses other bytes. That also spares a SHA-256 of everything, which costs more than sending.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import Payload

from sluice_backends.s3.errors import checksum_mismatch
from sluice_backends.s3.progress import StallTimeout
from sluice_core.objects.body import closing, verified
from sluice_core.ports.object_store import Body

_PIECE_BYTES = 256 * 1024
"""Written at once: that one of these is taken is the sign of progress."""


class OutgoingBody(Payload):
    """A port's `Body` as the HTTP client sends it; begins anew each time it is sent.

    Args:
        stall: told of progress, and stopped while the source is waited for.
        verify: compute the CRC32C in passing, for a store that does not.
        expects_continue: whether the store is asked if it wants the body (Expect: 100-continue). One
            that is not asked may refuse it by ending the connection, and then says no reason.
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
        """What the source raised, or the mismatch that was seen; the client wraps it past
        recognition."""

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
            # The client only closes it, which waits until a store that takes nothing has taken
            # what is buffered.
            if transport is not None:
                transport.abort()
            raise
        finally:
            self._idle.set()

    async def settled(self) -> None:
        """Returns when nothing reads the source any more.

        The client's writing task outlives a request that ended early by a few turns of the loop.
        """
        await self._idle.wait()

    async def _send(self, writer: AbstractStreamWriter, blocks: AsyncIterator[bytes]) -> None:
        """Each block goes out when the next one is there, so that the last one does only when the
        body is known to be what it claims: the store then never has a whole wrong one."""
        sent = 0
        block = await self._next(blocks)
        while block is not None:
            following = await self._next(blocks)
            sent += len(block)
            if (following is None) != (sent == self._body.size):
                break
            for piece in _pieces(block):
                await writer.write(piece)
                self._stall.alive()
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

    # botocore wants a file and never reads it: the payload is neither signed nor checksummed there.

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
