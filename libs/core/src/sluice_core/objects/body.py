"""Bodies: sources of the bytes of an object or a part."""

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

_MAX_INLINE_HASH_BYTES = 128 * 1024
"""More bytes are hashed in a thread. Hashing this many costs about one thread hand-off."""

_HASH_BATCH_BYTES = 2 * MAX_BLOCK_BYTES
"""Bytes hashed per thread hand-off: as many as one read of the chunk store returns."""

_READ_BATCH_CHUNKS = 1_000
"""Chunks requested from the chunk store in one call."""


@asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a generator at once when its consumer leaves early, not at garbage collection."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def verified(body: Body) -> AsyncGenerator[bytes, None]:
    """Yield the body's blocks.

    Raise `DataLoss` CHECKSUM_MISMATCH as soon as they exceed the body's size, and at the end when
    size or CRC32C differ from the claimed ones.
    """
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
    """Body in memory."""

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


class ArrivingBody:
    """Body that a client sends: read once, and its CRC32C is known when it has been read.

    Args:
        claimed_crc32c: CRC32C that the client announced, if it did; `verified` compares it.
    """

    def __init__(
        self, blocks: AsyncIterator[bytes], *, size: int, claimed_crc32c: int | None = None
    ) -> None:
        self._blocks = blocks
        self._size = size
        self._claimed_crc32c = claimed_crc32c
        self._crc32c = EMPTY_CRC32C

    @property
    def size(self) -> int:
        return self._size

    @property
    def crc32c(self) -> int:
        return self._crc32c if self._claimed_crc32c is None else self._claimed_crc32c

    async def blocks(self) -> AsyncIterator[bytes]:
        async with closing(self._blocks) as blocks:
            async for block in blocks:
                self._crc32c = crc32c(block, self._crc32c)
                yield block


class ChunksBody:
    """Body that reads a run of chunks from the chunk store on demand.

    Args:
        refs: yields the chunks in order, from the first one at each call. It pages through the
            ledger, so that a part of 100,000 chunks is never held as a list.
        size, crc32c: of all chunks together (`combined_crc32c`).

    `blocks` raises the errors of `ChunkStore.read_many` for a missing or damaged chunk.
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
                if len(run) == _READ_BATCH_CHUNKS:
                    yield run
                    run = []
        if run:
            yield run


class HashingBody:
    """Body that computes its SHA-256 while it is read (rule 20).

    A thread hashes one batch of blocks while the consumer works on the blocks that follow. The
    last batch is hashed when the consumer asks for the next block.
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
        """SHA-256 of the last complete pass; None during a pass and before the first one."""
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
                await hashing.wait_idle()
        self._sha256 = await hashing.digest()


class _Hashing:
    """Incremental SHA-256 of blocks; holds at most one batch of them."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._running: asyncio.Future[None] | None = None

    async def add(self, block: bytes) -> None:
        await self.wait_idle()
        self._batch.append(block)
        self._batch_bytes += len(block)
        if self._batch_bytes >= _HASH_BATCH_BYTES:
            self._start()

    async def digest(self) -> bytes:
        await self.wait_idle()
        if self._batch_bytes <= _MAX_INLINE_HASH_BYTES:
            self._hash(self._batch)
        else:
            self._start()
            await self.wait_idle()
        return self._sha256.digest()

    async def wait_idle(self) -> None:
        """Return when no thread is hashing."""
        if self._running is not None:
            await self._running

    def _start(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._running = asyncio.get_running_loop().run_in_executor(None, self._hash, batch)

    def _hash(self, batch: Sequence[bytes]) -> None:
        for block in batch:
            self._sha256.update(block)
