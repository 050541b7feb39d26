"""Chunk store that sends chunks directly to the repository over ChunkSinkService (phase 2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import grpc.aio

from sluice.upload.v1.upload_pb2 import Accepted
from sluice_backends.discard.chunks import NoStoredChunks
from sluice_common.direct.options import DirectOptions
from sluice_common.direct.streams import SinkStream, SinkStreams
from sluice_common.direct.wire import encode_block, encode_first_block
from sluice_core.errors import DataLoss, InvalidArgument, OutOfRange
from sluice_core.ports import Block, ChunkOffer, StagedChunk
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.chunk_checks import check_name


class _ChunkInTransit:
    """One chunk in transit to the repository.

    It takes a stream with its first block, not with its header: a client that announces a chunk
    and falls silent holds none. All blocks of a chunk go over one stream. While the HTTP/2 window
    is full, `append` waits and the intake reads no further: back-pressure reaches the client.
    """

    def __init__(self, offer: ChunkOffer, streams: SinkStreams) -> None:
        self._offer = offer
        self._streams = streams
        self._stream: SinkStream | None = None
        self._missing_bytes = offer.size
        self._crc32c = EMPTY_CRC32C

    @property
    def token(self) -> str:
        return self._offer.token

    async def append(self, block: Block) -> None:
        size = len(block)
        if size == 0:
            return
        if size > self._missing_bytes:
            raise OutOfRange(
                "CHUNK_OVERRUN",
                f"Chunk {self._offer.number} has more bytes than the {self._offer.size} offered.",
                metadata={"number": str(self._offer.number)},
            )
        self._missing_bytes -= size
        self._crc32c = crc32c(block, self._crc32c)
        if self._stream is None:
            self._stream = await self._streams.acquire()
            await self._stream.send(encode_first_block(self._offer, block))
        else:
            await self._stream.send(encode_block(block))

    async def keep(self) -> None:
        """No-op: staged bytes live as long as this object."""

    async def seal(self) -> None:
        """Wait until the repository has the whole chunk, and compare checksums."""
        if self._missing_bytes:
            raise InvalidArgument(
                "CHUNK_INCOMPLETE",
                f"Chunk {self._offer.number} lacks {self._missing_bytes} bytes; send it again.",
                metadata={"number": str(self._offer.number)},
            )
        if self._stream is None:
            self._stream = await self._streams.acquire()
            await self._stream.send(encode_first_block(self._offer, b""))
        self._check(await self._stream.accepted())
        # Free the stream now: the ledger step that follows needs none.
        self.close()

    def close(self) -> None:
        """Release the stream; one in the middle of a chunk is cancelled."""
        if self._stream is not None:
            self._streams.release(self._stream)
            self._stream = None

    def _check(self, accepted: Accepted) -> None:
        offer = self._offer
        ours = (offer.number, offer.size, self._crc32c)
        if (accepted.number, accepted.size, accepted.crc32c) != ours:
            raise DataLoss(
                "CHECKSUM_MISMATCH",
                f"Chunk {offer.number} was damaged in transit to the repository; send it again.",
                metadata={
                    "number": str(offer.number),
                    "sent_crc32c": f"{self._crc32c:08x}",
                    "arrived_crc32c": f"{accepted.crc32c:08x}",
                },
            )


class DirectChunkStore(NoStoredChunks):
    """A `ChunkStore` that hands all bytes to the repository and cannot read them back.

    The intake keeps the upload state in an in-memory ledger with `discard_on_accept`, so that an
    accepted chunk leaves the budget at once. The repository counts and checksums the blocks,
    answers `Accepted` with its CRC32C, and discards them (objects are discarded in this
    combination). `Accepted` to the client thus means that the whole chunk was in the repository's
    memory. `seal` compares the two checksums, so that a bit flip in transit never counts as a
    chunk. `read` raises CHUNK_MISSING. Uploads end with their intake; a client resumes at the
    same one.

    Use it as an async context manager; the channel must outlive it.

    Args:
        channel: to the repository (`direct_channel`); owned by the caller.
        options: bounds.
        metadata: sent with every call; identifies the intake to the repository.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        options: DirectOptions | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._streams = SinkStreams(channel, options or DirectOptions(), metadata)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._streams.close()

    @asynccontextmanager
    async def stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        """Stage a chunk, as the port specifies.

        `append` and `seal` raise `Unavailable` REPOSITORY_UNAVAILABLE, `ResourceExhausted`
        TRANSPORT_BUSY and `DataLoss` CHECKSUM_MISMATCH. After any of them the chunk does not
        count, and the client may send it again.
        """
        check_name(offer.upload_id, "upload_id")
        check_name(offer.token, "token")
        sending = _ChunkInTransit(offer, self._streams)
        try:
            yield sending
        finally:
            sending.close()
