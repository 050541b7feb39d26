"""Reception of one chunk: its bytes are staged, counted and checksummed (rules 1, 5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from sluice_common.rpc.chunk_errors import block_too_large, chunk_overrun
from sluice_common.rpc.frames import Header
from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import DataLoss, InvalidArgument, SluiceError
from sluice_core.ports import (
    Block,
    ChunkLedger,
    ChunkOffer,
    ChunkStore,
    StagedChunk,
)
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.names import check_chunk_number
from sluice_intake.chunks.room import ChunkRoom, RequestRoom
from sluice_intake.options import IntakeOptions
from sluice_intake.quotas import UploadRooms

_log = structlog.get_logger(__name__)


class _NullStaging:
    """The staging area of a duplicate chunk: a no-op, only the checksum matters."""

    def __init__(self, token: str) -> None:
        self.token = token

    async def append(self, block: Block) -> None:
        pass

    async def keep(self) -> None:
        pass

    async def seal(self) -> None:
        pass


class IncomingChunk:
    """One chunk between its header and its acceptance."""

    __slots__ = (
        "_append",
        "_covered_down_to",
        "_max_block_bytes",
        "_room",
        "_staged",
        "claimed_crc32c",
        "crc32c",
        "missing_bytes",
        "offer",
        "sealed",
    )

    def __init__(
        self,
        offer: ChunkOffer,
        claimed_crc32c: int | None,
        staged: StagedChunk,
        room: ChunkRoom,
        max_block_bytes: int,
    ) -> None:
        self.offer = offer
        self.claimed_crc32c = claimed_crc32c
        self.crc32c = EMPTY_CRC32C
        self.missing_bytes = offer.size
        self.sealed = False
        self._staged = staged
        self._append = staged.append
        self._room = room
        self._covered_down_to = offer.size - room.held_bytes
        self._max_block_bytes = max_block_bytes

    async def append(self, block: memoryview) -> None:
        """Add one received block. No copy is made here.

        Raise `InvalidArgument` BLOCK_TOO_LARGE, `OutOfRange` CHUNK_OVERRUN.
        """
        size = len(block)
        if size > self._max_block_bytes:
            raise block_too_large(self.offer.number, self._max_block_bytes)
        if size > self.missing_bytes:
            raise chunk_overrun(self.offer.number, self.offer.size)
        self.missing_bytes -= size
        if self.missing_bytes < self._covered_down_to:
            await self._room.cover(self._arrived_bytes)
            self._covered_down_to = self.offer.size - self._room.held_bytes
        self.crc32c = crc32c(block, self.crc32c)
        await self._append(block)

    async def append_whole(self, data: memoryview) -> None:
        """Add all bytes of the chunk, block by block."""
        step = self._max_block_bytes
        for start in range(0, len(data), step):
            await self.append(data[start : start + step])
            await asyncio.sleep(0)  # yield to other calls: stores in memory never suspend

    def seconds_since_room_request(self) -> float:
        """Return the age of the chunk's last request for room."""
        return self._room.seconds_since_request()

    async def renew(self, *, shrink: bool) -> bool:
        """Renew the staged bytes and the reservation; return whether others wait for room.

        Args:
            shrink: release the part of the reservation that a slow chunk does not use.
        """
        if not self.offer.staged:
            return False
        await self._staged.keep()  # first: staged bytes must not outlive their reservation
        admission = await self._room.renew(self._arrived_bytes, shrink=shrink)
        self._covered_down_to = self.offer.size - self._room.held_bytes
        return admission is not None and admission.pressed

    @property
    def _arrived_bytes(self) -> int:
        return self.offer.size - self.missing_bytes

    async def seal(self) -> None:
        """Verify the claimed checksum and persist the bytes as the durability class requires.

        Raise `DataLoss` CHECKSUM_MISMATCH; the chunk is then discarded.
        """
        if self.claimed_crc32c is not None and self.claimed_crc32c != self.crc32c:
            raise DataLoss(
                "CHECKSUM_MISMATCH",
                f"Chunk {self.offer.number} does not match its CRC32C; send it again.",
                metadata={
                    "number": str(self.offer.number),
                    "claimed_crc32c": f"{self.claimed_crc32c:08x}",
                    "computed_crc32c": f"{self.crc32c:08x}",
                },
            )
        await self._staged.seal()
        self.sealed = True


def make_offer(upload_id: str, header: Header, max_chunk_bytes: int) -> ChunkOffer:
    """Return the offer of a header. Raise `InvalidArgument` for one that is never acceptable."""
    number = check_chunk_number(header.number)
    if header.size < 0:
        raise InvalidArgument(
            "BAD_CHUNK_SIZE", "The chunk size is negative; send 0 or more bytes.", field="size"
        )
    if header.size > max_chunk_bytes:
        raise InvalidArgument(
            "CHUNK_TOO_LARGE",
            f"A chunk has at most {max_chunk_bytes} bytes; cut the object into more chunks.",
            field="size",
            metadata={"number": str(number)},
        )
    return ChunkOffer(
        upload_id=upload_id,
        number=number,
        size=header.size,
        token=new_token(),
        is_last=header.is_last,
        force=header.force,
    )


class ChunkReceiver:
    """The stage that opens chunks: room first, then a staging area; a failure frees both.

    The room is that of the quota, then that of the budget.
    """

    def __init__(
        self, ledger: ChunkLedger, chunks: ChunkStore, rooms: UploadRooms, options: IntakeOptions
    ) -> None:
        self._rooms = rooms
        self._ledger = ledger
        self._chunks = chunks
        self._max_block_bytes = options.max_block_bytes

    @asynccontextmanager
    async def open(
        self,
        offer: ChunkOffer,
        claimed_crc32c: int | None,
        request_room: RequestRoom,
        arrived_bytes: int = 0,
    ) -> AsyncIterator[IncomingChunk]:
        """Yield a chunk that is ready for its bytes, once `request_room` has granted room.

        An exit before the chunk is sealed releases the room and the staged bytes. After the
        seal both stay: the ledger may have accepted the chunk even if its answer was lost.

        Args:
            arrived_bytes: bytes of the chunk that have arrived already.
        """
        upload_room = await self._rooms.open_chunk(offer)
        chunk: IncomingChunk | None = None
        try:
            room = ChunkRoom(offer, request_room)
            admission = await room.open(arrived_bytes)
            if admission.known:
                unstaged = _NullStaging(offer.token)
                chunk = IncomingChunk(
                    replace(offer, staged=False),
                    claimed_crc32c,
                    unstaged,
                    room,
                    self._max_block_bytes,
                )
                yield chunk
                return
            async with self._chunks.stage(offer) as staged:
                chunk = IncomingChunk(offer, claimed_crc32c, staged, room, self._max_block_bytes)
                yield chunk
        finally:
            self._rooms.close_chunk(upload_room, offer)
            if chunk is None or not chunk.sealed:
                # Also when admission itself failed: room may have been granted to a caller that
                # was cancelled at the same moment.
                await finish_despite_cancel(self._release(offer))

    async def _release(self, offer: ChunkOffer) -> None:
        try:
            await self._ledger.release_chunk(offer)
        except SluiceError as error:
            # The reservation expires; the failure that led here is the one to report.
            _log.warning("chunk.release_failed", upload_id=offer.upload_id, reason=error.reason)
