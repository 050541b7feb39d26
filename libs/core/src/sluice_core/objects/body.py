"""Bodies: where the bytes of an object or a part come from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from sluice_core.errors import DataLoss
from sluice_core.ports import ChunkStore
from sluice_core.ports.object_store import Body
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.model import MAX_BLOCK_BYTES, ChunkRef

T = TypeVar("T")

_HASHED_HERE_BYTES = 128 * 1024
"""SHA-256 of this takes about as long as a trip to a thread; what is larger makes the trip."""

_HASHED_TOGETHER_BYTES = 2 * MAX_BLOCK_BYTES
"""Blocks that make it together: as many as are read from the chunk store in one go."""

_READ_AT_ONCE_CHUNKS = 1_000
"""Chunks asked of the chunk store in one call."""


@asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a generator at once when its consumer leaves early, not when it is collected."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def verified(body: Body) -> AsyncGenerator[bytes, None]:
    """The body's blocks. Raises `DataLoss` CHECKSUM_MISMATCH as soon as they are more than the
    body's size, and at the end when size or CRC32C are not what it claims."""
    size, crc = 0, EMPTY_CRC32C
    async with closing(body.blocks()) as blocks:
        async for block in blocks:
            size += len(block)
            if size > body.size:
                break
            crc = crc32c(block, crc)
            yield block
    if size != body.size or crc != body.crc32c:
        raise DataLoss(
            "CHECKSUM_MISMATCH",
            "The bytes that arrived at the object store are not those that were announced; "
            "store them again from their source.",
        )


class BytesBody:
    """A body that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._crc32c = crc32c(data)

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def crc32c(self) -> int:
        return self._crc32c

    async def blocks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), MAX_BLOCK_BYTES):
            yield self._data[start : start + MAX_BLOCK_BYTES]


class ChunksBody:
    """A run of chunks, read from the chunk store when the object store asks for them.

    Args:
        refs: yields the chunks in order, from the first one each time it is called (it pages
            through the ledger, so that a part of 100,000 chunks is never held as a list).
        size, crc32c: of all the chunks together (`combined_crc32c` of theirs).

    `blocks` raises what `ChunkStore.read_many` raises for a chunk that is missing or damaged.
    """

    def __init__(
        self,
        chunks: ChunkStore,
        upload_id: str,
        refs: Callable[[], AsyncIterator[ChunkRef]],
        *,
        size: int,
        crc32c: int,
    ) -> None:
        self._chunks = chunks
        self._upload_id = upload_id
        self._refs = refs
        self._size = size
        self._crc32c = crc32c

    @property
    def size(self) -> int:
        return self._size

    @property
    def crc32c(self) -> int:
        return self._crc32c

    async def blocks(self) -> AsyncIterator[bytes]:
        async with closing(self._runs()) as runs:
            async for run in runs:
                async with closing(self._chunks.read_many(self._upload_id, run)) as blocks:
                    async for block in blocks:
                        yield block

    async def _runs(self) -> AsyncIterator[Sequence[ChunkRef]]:
        run: list[ChunkRef] = []
        async with closing(self._refs()) as refs:
            async for ref in refs:
                run.append(ref)
                if len(run) == _READ_AT_ONCE_CHUNKS:
                    yield run
                    run = []
        if run:
            yield run


class HashingBody:
    """A body whose SHA-256 is taken in passing (rule 20).

    A few blocks at a time are hashed in a thread while the consumer works on those that follow;
    the last of them when it asks for more.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._sha256: bytes | None = None

    @property
    def size(self) -> int:
        return self._body.size

    @property
    def crc32c(self) -> int:
        return self._body.crc32c

    @property
    def sha256(self) -> bytes | None:
        """Of the last full pass; None before its end, and again when a new pass has begun."""
        return self._sha256

    async def blocks(self) -> AsyncIterator[bytes]:
        self._sha256 = None
        hashing = _Hashing()
        async with closing(self._body.blocks()) as blocks:
            try:
                async for block in blocks:
                    await hashing.add(block)
                    yield block
            finally:
                await hashing.settled()
        self._sha256 = await hashing.digest()


class _Hashing:
    """SHA-256 of blocks that come one by one; holds a lot of them and no more."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._lot: list[bytes] = []
        self._lot_bytes = 0
        self._under_way: asyncio.Future[None] | None = None

    async def add(self, block: bytes) -> None:
        await self.settled()
        self._lot.append(block)
        self._lot_bytes += len(block)
        if self._lot_bytes >= _HASHED_TOGETHER_BYTES:
            self._begin()

    async def digest(self) -> bytes:
        await self.settled()
        if self._lot_bytes <= _HASHED_HERE_BYTES:
            self._hash(self._lot)
        else:
            self._begin()
            await self.settled()
        return self._sha256.digest()

    async def settled(self) -> None:
        """Returns when no thread is at it."""
        if self._under_way is not None:
            await self._under_way

    def _begin(self) -> None:
        lot, self._lot, self._lot_bytes = self._lot, [], 0
        self._under_way = asyncio.get_running_loop().run_in_executor(None, self._hash, lot)

    def _hash(self, lot: Sequence[bytes]) -> None:
        for block in lot:
            self._sha256.update(block)
