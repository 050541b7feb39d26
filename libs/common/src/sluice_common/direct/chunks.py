"""Chunks handed straight to the repository over ChunkSinkService: no store in between (phase 2).

Who holds what: the intake keeps the upload's state in a ledger of its own memory, with
`discard_on_accept`, so that an accepted chunk leaves the budget at once. The repository is the
chunk store: it takes the blocks, counts and checksums them, answers `Accepted` with the CRC32C
that it computed, and discards them, because objects are discarded in this combination. So
`Accepted` to the client means that the bytes were whole in the repository's memory. `seal` compares
its checksum with the one computed here; a bit that flips between the two services never counts as a
chunk. Nothing can be read back: `read` says CHUNK_MISSING. Uploads live and end with their intake:
a client resumes at the same one.

A chunk takes a stream with its first block, not with its header: a client that announces a chunk
and falls silent holds none. Blocks of one chunk stay together; chunks interleave across streams.
A slow repository slows the client down: HTTP/2 has no room, `append` waits, and the intake reads
no further.
"""

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
from sluice_common.direct.wire import following, opening
from sluice_core.errors import DataLoss, InvalidArgument, OutOfRange
from sluice_core.ports import Block, ChunkOffer, StagedChunk
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.chunk_checks import check_name


class _Sending:
    """One chunk on its way to the repository."""

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
            self._stream = await self._streams.take()
            await self._stream.send(opening(self._offer, block))
        else:
            await self._stream.send(following(block))

    async def keep(self) -> None:
        """No-op: staged bytes live as long as their sender."""

    async def seal(self) -> None:
        """Wait until the repository has the whole chunk, and compare what it has."""
        if self._missing_bytes:
            raise InvalidArgument(
                "CHUNK_INCOMPLETE",
                f"Chunk {self._offer.number} lacks {self._missing_bytes} bytes; send it again.",
                metadata={"number": str(self._offer.number)},
            )
        if self._stream is None:
            self._stream = await self._streams.take()
            await self._stream.send(opening(self._offer, b""))
        self._check(await self._stream.accepted())
        # Not only when the chunk is left: the ledger's step comes first, and needs no stream.
        self.close()

    def close(self) -> None:
        """Let the stream go; one that is in the middle of a chunk ends."""
        if self._stream is not None:
            self._streams.give_back(self._stream)
            self._stream = None

    def _check(self, accepted: Accepted) -> None:
        offer = self._offer
        ours = (offer.number, offer.size, self._crc32c)
        if (accepted.number, accepted.size, accepted.crc32c) != ours:
            raise DataLoss(
                "CHECKSUM_MISMATCH",
                f"Chunk {offer.number} was damaged on its way to the repository; send it again.",
                metadata={
                    "number": str(offer.number),
                    "sent_crc32c": f"{self._crc32c:08x}",
                    "arrived_crc32c": f"{accepted.crc32c:08x}",
                },
            )


class DirectChunkStore(NoStoredChunks):
    """A `ChunkStore` whose bytes are in the repository, which keeps none of them.

    Use it as an async context manager, inside of which the channel lives.

    Args:
        channel: to the repository (`direct_channel`); owned by the caller.
        options: bounds.
        metadata: of every call: by it the repository knows the intake.
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
        """As the port says; `append` and `seal` raise `Unavailable` REPOSITORY_UNAVAILABLE,
        `ResourceExhausted` TRANSPORT_BUSY and `DataLoss` CHECKSUM_MISMATCH. After any of them
        nothing of the chunk counts, and the client may send it again."""
        check_name(offer.upload_id, "upload_id")
        check_name(offer.token, "token")
        sending = _Sending(offer, self._streams)
        try:
            yield sending
        finally:
            sending.close()
